"""The losses that compare with the teacher: hidden states, and the end of the turn in distillation."""

from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.losses import distillation, hidden
from toolkit.testing import check_loss
from toolkit.types import LossInputs, LossOutput, Outputs

assert hidden, distillation  # they register by import


def inputs(student: Tensor, teacher: Tensor, targets: Seq[int] = (), end_of_turn: int = -1) -> LossInputs:
    """Make inputs whose logits and hidden states are both the tensors given, (M, V)."""
    ids = torch.tensor(targets or [0] * len(student))
    return LossInputs(ids, Outputs(student, student), Outputs(teacher, teacher), end_of_turn=end_of_turn)


def test_hidden_keeps_its_law() -> None:
    check_loss("hidden")


class Averaged(Loss):
    """Averages over the batch, which no sum over batches can mend."""

    needs = frozenset({"student", "teacher"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        output: LossOutput = LOSSES.build({"name": "hidden"})(inputs)
        return replace(output, total=output.total / max(output.count, 1))


def test_a_mean_is_caught_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES._classes, "averaged", Averaged)
    with pytest.raises(AssertionError, match="'averaged' breaks the law: a batch split in two sums to the same"):
        check_loss("averaged")


def test_hidden_is_the_distance_and_not_its_square() -> None:
    student = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    output = LOSSES.build({"name": "hidden"})(inputs(student, torch.tensor([[0.0, 0.0], [1.0, 0.0]])))
    assert (float(output.total), output.count) == (6.0, 2)
    assert float(output.parts["hidden"]) == 6.0


def test_hidden_may_look_at_the_first_token_of_each_answer_alone() -> None:
    student = torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 5.0]]).requires_grad_()
    given = inputs(student, torch.zeros(3, 2))
    first = LOSSES.build({"name": "hidden", "positions": "first"})
    output = first(replace(given, starts=torch.tensor([True, False, True])))
    assert (output.total.item(), output.count) == (10.0, 2)
    output.total.backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 1.0]]))
    check_loss("hidden", positions="first")


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of all, first, not 'last'"):
        LOSSES.build({"name": "hidden", "positions": "last"})


def test_hidden_is_zero_with_a_zero_gradient_where_student_and_teacher_agree() -> None:
    student = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = LOSSES.build({"name": "hidden"})(inputs(student, student.detach().clone()))
    output.total.backward()
    assert float(output.total.detach()) == 0.0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros(3, 5))


def random_logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 7, generator=generator), torch.randn(4, 7, generator=generator)


@pytest.mark.parametrize("square", [False, True])
def test_distillation_without_end_weight_is_what_it_was_to_the_bit(square: bool) -> None:
    student, teacher = random_logits()
    output = LOSSES.build({"name": "distillation", "scale_by_square": square})(inputs(student, teacher, [1, 2, 3, 6]))
    plain = functional.kl_div(
        functional.log_softmax(student / 2.0, dim=-1),
        functional.log_softmax(teacher / 2.0, dim=-1),
        reduction="sum",
        log_target=True,
    ) * (4.0 if square else 1.0)
    assert torch.equal(output.total, plain)
    assert list(output.parts) == ["distillation"]


def test_end_weight_counts_the_end_of_the_turn_again() -> None:
    student, teacher = random_logits()
    weighted = LOSSES.build({"name": "distillation", "end_weight": 0.5, "end_token": 6})
    plain = LOSSES.build({"name": "distillation"})
    once = plain(inputs(student, teacher, [1, 6, 3, 6])).total
    at_ends = plain(inputs(student[[1, 3]], teacher[[1, 3]])).total
    output = weighted(inputs(student, teacher, [1, 6, 3, 6]))
    torch.testing.assert_close(output.total, once + 0.5 * at_ends)
    torch.testing.assert_close(output.parts["end_of_turn"], 0.5 * at_ends)
    assert output.count == 4
    assert torch.equal(weighted(inputs(student, teacher, [1, 2, 3, 4])).total, once)


def test_the_batch_says_which_token_ends_a_turn_unless_the_configuration_does() -> None:
    student, teacher = random_logits()
    given = inputs(student, teacher, [1, 6, 3, 2], end_of_turn=6)
    told, own, other = (
        LOSSES.build({"name": "distillation", "end_weight": 1.0, "end_token": token})(given).parts["end_of_turn"]
        for token in (6, -1, 2)
    )
    assert torch.equal(own, told)
    assert not torch.equal(other, told)


def test_distillation_with_end_weight_keeps_its_law() -> None:
    check_loss("distillation", end_weight=1.0)
    check_loss("distillation", end_weight=1.0, end_token=4)


def test_end_weight_says_what_it_wants() -> None:
    with pytest.raises(ConfigError, match="not be negative"):
        LOSSES.build({"name": "distillation", "end_weight": -1.0})
    with pytest.raises(ConfigError, match=r"does not say which token ends a turn; give loss\.end_token"):
        LOSSES.build({"name": "distillation", "end_weight": 1.0})(inputs(*random_logits()))
