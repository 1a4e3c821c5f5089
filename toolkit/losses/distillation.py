"""KL divergence from the text-prompted teacher to the speech-prompted student (Ultravox, BLSP-Emo: T = 2)."""

from typing import ClassVar

from torch.nn import functional

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("distillation")
class DistillationLoss(Loss):
    """KL(teacher || student) at the supervised positions, over the whole vocabulary.

    Published relatives use temperature 2 without the factor T^2 (METHODS of BLSP-Emo and Ultravox), which
    `scale_by_square` restores.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"student", "teacher"})

    def __init__(self, *, temperature: float = 2.0, scale_by_square: bool = False) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"loss.temperature must be positive, not {temperature}")
        self.temperature = temperature
        self.factor = temperature**2 if scale_by_square else 1.0

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the divergence over the M supervised positions; 0 when student and teacher agree."""
        assert inputs.student is not None
        assert inputs.teacher is not None
        student = functional.log_softmax(inputs.student.logits.float() / self.temperature, dim=-1)
        teacher = functional.log_softmax(inputs.teacher.logits.float() / self.temperature, dim=-1)
        total = functional.kl_div(student, teacher, reduction="sum", log_target=True) * self.factor
        return LossOutput(total, len(inputs.targets), {"distillation": total.detach()})
