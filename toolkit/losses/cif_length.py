"""The length loss of integrate-and-fire: as many outputs as the transcript has tokens (BLSP-Emo, arXiv 2406.03872)."""

from typing import ClassVar

from torch.nn import functional

from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("cif_length")
class CIFLengthLoss(Loss):
    """Sums |sum of weights - number of transcript tokens| over utterances, and counts utterances.

    Beside cross-entropy it is weighted by `weighted`; its published weight was not found.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quantities"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the distance over the B utterances."""
        assert inputs.quantities is not None
        found, wanted = inputs.quantities.found, inputs.quantities.wanted
        total = functional.l1_loss(found, wanted.to(found), reduction="sum")
        return LossOutput(total, len(found), {"cif_length": total.detach()})
