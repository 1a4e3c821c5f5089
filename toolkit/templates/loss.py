"""The loss `new_part`. Say here which idea it is, and whose: paper, arXiv id."""

from typing import ClassVar

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("new_part")
class NewPartLoss(Loss):
    """Cross-entropy on the targets, of which `smoothing` is spread over the vocabulary."""

    needs: ClassVar[frozenset[str]] = frozenset({"student"})  # the step computes this and nothing else

    # What is keyword-only is configuration: `loss.smoothing=0.1`.
    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(f"loss.smoothing is a share, 0 or more and less than 1, not {smoothing}")
        self.smoothing = smoothing

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum, not average, over the M supervised positions: the step divides by their true number."""
        assert inputs.student is not None
        scores = inputs.student.logits.float().log_softmax(-1)  # (M, V)
        target = -scores.gather(1, inputs.targets[:, None]).sum()
        total = (1 - self.smoothing) * target - self.smoothing * scores.mean(-1).sum()
        return LossOutput(total, len(inputs.targets), {"new_part": total.detach()})
