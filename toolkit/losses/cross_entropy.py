"""Cross-entropy on the answer to imitate: the loss of BLSP (arXiv 2309.00916) and the natural one for MTBI."""

from typing import ClassVar

from torch.nn import functional

from toolkit.interfaces import LOSSES, Loss
from toolkit.losses.chunks import in_chunks
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("cross_entropy")
class CrossEntropyLoss(Loss):
    """Negative log-likelihood of the target tokens."""

    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over the M supervised positions."""
        return in_chunks(self._sum, inputs)

    def _sum(self, inputs: LossInputs) -> LossOutput:
        assert inputs.student is not None
        total = functional.cross_entropy(inputs.student.logits.float(), inputs.targets, reduction="sum")
        return LossOutput(total, len(inputs.targets), {"cross_entropy": total.detach()})
