"""Cross-entropy of a token adapter's steps with the word times: what gets CTC over its long first plateau."""

from typing import ClassVar

from torch.nn import functional

from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("alignment")
class AlignmentLoss(Loss):
    """Classifies every step whose label the word times give; utterances without word times add nothing."""

    needs: ClassVar[frozenset[str]] = frozenset({"spans"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over labelled steps."""
        assert inputs.spans is not None
        logits, alignment = inputs.spans.logits.values, inputs.spans.alignment
        if alignment is None:
            return LossOutput(0 * logits.sum(), 0, {"alignment": logits.new_zeros(())})
        known = alignment >= 0
        total = functional.cross_entropy(logits[known].float(), alignment[known], reduction="sum")
        return LossOutput(total, int(known.sum()), {"alignment": total.detach()})
