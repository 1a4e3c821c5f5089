"""KL divergence from the text-prompted teacher to the speech-prompted student (Ultravox, BLSP-Emo: T = 2)."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.losses.chunks import in_chunks
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("distillation")
class DistillationLoss(Loss):
    """KL(teacher || student) at the supervised positions, over the whole vocabulary.

    Published relatives use temperature 2 without the factor T^2 (METHODS of BLSP-Emo and Ultravox), which
    `scale_by_square` restores.

    Ultravox adds the same divergence at the end of the turn once more, with weight 1: `end_weight: 1` does. Which
    token ends a turn is known from the decoder's chat template; `end_token` is another id, -1 is none. Its two terms
    are means of their own; ours are sums over one count, so that a batch may be split, and a turn's end weighs as
    much as `1 + end_weight` tokens.

    A stored teacher knows its k likeliest tokens and the probability of all others together. The divergence is then
    over these k + 1 outcomes, which the temperature sharpens or flattens like tokens: 0 when the two agree, never more
    than that over the vocabulary at temperature 1, and equal to it where k is the whole vocabulary. One outcome for
    the rest is ours; without it, nothing would say how much the student may spend on other tokens.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"student", "teacher"})
    stored_teacher: ClassVar[bool] = True

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        scale_by_square: bool = False,
        end_weight: float = 0.0,
        end_token: int = -1,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"loss.temperature must be positive, not {temperature}")
        if end_weight < 0:
            raise ConfigError(f"loss.end_weight must not be negative, not {end_weight}")
        self.temperature = temperature
        self.factor = temperature**2 if scale_by_square else 1.0
        self.end_weight = end_weight
        self.end_token = end_token

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the divergence over the M supervised positions; 0 when student and teacher agree.

        Raises:
            ConfigError: the end of the turn is asked for, and neither the batch nor `end_token` says what it is.
        """
        return in_chunks(self._sum, inputs)

    def _sum(self, inputs: LossInputs) -> LossOutput:
        student, teacher = (functional.log_softmax(x / self.temperature, dim=-1) for x in self._scores(inputs))
        total = self._divergence(student, teacher)
        if not self.end_weight:
            return LossOutput(total, len(inputs.targets), {"distillation": total.detach()})
        end_token = self.end_token if self.end_token >= 0 else inputs.end_of_turn
        if end_token < 0:
            raise ConfigError("loss.end_weight: the batch does not say which token ends a turn; give loss.end_token")
        ends = inputs.targets == end_token
        at_ends = self.end_weight * self._divergence(student[ends], teacher[ends])
        parts = {"distillation": total.detach(), "end_of_turn": at_ends.detach()}
        return LossOutput(total + at_ends, len(inputs.targets), parts)

    def _scores(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Return what student and teacher say of the same outcomes, up to a constant in each row."""
        assert inputs.student is not None
        if inputs.stored_teacher is not None:
            return inputs.stored_teacher.same_outcomes(inputs.student.logits), inputs.stored_teacher.log_probs
        assert inputs.teacher is not None
        return inputs.student.logits.float(), inputs.teacher.logits.float()

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return functional.kl_div(student, teacher, reduction="sum", log_target=True) * self.factor
