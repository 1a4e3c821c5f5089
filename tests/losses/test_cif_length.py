import torch

from toolkit.losses.cif_length import CIFLengthLoss
from toolkit.testing import check_loss
from toolkit.types import LossInputs, Quantities


def test_the_law_holds() -> None:
    check_loss("cif_length")


def test_worked_out_by_hand() -> None:
    found = torch.tensor([2.5, 4.0, 7.0], requires_grad=True)
    output = CIFLengthLoss()(LossInputs(torch.zeros(0), quantities=Quantities(found, torch.tensor([3, 4, 5]))))
    assert (output.total.item(), output.count) == (2.5, 3)
    output.total.backward()
    assert found.grad is not None
    assert found.grad.tolist() == [-1.0, 0.0, 1.0]
