"""Cross-entropy on the answer to imitate: the loss of BLSP (arXiv 2309.00916) and the natural one for MTBI."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.interfaces import LOSSES, Loss
from toolkit.losses.chunks import in_chunks
from toolkit.types import LossInputs, LossOutput

TOGETHER = {"cpu": 2**20}
"""of a kind of device, how many scores become probabilities together: more no longer fit a CPU's caches"""


@LOSSES.register("cross_entropy")
class CrossEntropyLoss(Loss):
    """Negative log-likelihood of the target tokens."""

    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over the M supervised positions."""
        return in_chunks(self._sum, inputs)

    def _sum(self, inputs: LossInputs) -> LossOutput:
        assert inputs.student is not None
        total = cross_entropy(inputs.student.logits, inputs.targets)
        return LossOutput(total, len(inputs.targets), {"cross_entropy": total.detach()})


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum -log p(target) over M rows, in fp32.

    Like `torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")`, and with its gradient:
    probability less one-hot, worked out while the probabilities are at hand. Nothing of M x V in fp32 is held.

    Args:
        logits: (M, V), any precision.
        targets: (M,) token ids.
    """
    total: Tensor = _CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=logits.device)
        learns = ctx.needs_input_grad[0]
        slope = torch.empty_like(logits) if learns else None
        rows = max(1, TOGETHER.get(logits.device.type, logits.numel()) // logits.shape[1])
        for start in range(0, len(logits), rows):
            log_probs = logits[start : start + rows].float().log_softmax(-1)
            wanted = targets[start : start + rows, None]
            total -= log_probs.gather(1, wanted).sum()
            if slope is not None:
                probs = log_probs.exp_()
                slope[start : start + rows] = probs.scatter_add_(1, wanted, -probs.new_ones(wanted.shape))
        if slope is not None:
            ctx.save_for_backward(slope)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        # Looked at where that costs nothing: the slope of a sum over positions is 1, and M x V need not be copied.
        alone = outer.device.type == "cpu" and outer == 1
        return slope if alone else outer * slope, None
