"""Cross-entropy of a token adapter's steps with the word times: what gets CTC over its long first plateau."""

from typing import ClassVar

from torch.nn import functional

from toolkit.errors import DataError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("alignment")
class AlignmentLoss(Loss):
    """Classifies every step whose label the word times give; utterances without word times add nothing."""

    needs: ClassVar[frozenset[str]] = frozenset({"spans"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over labelled steps."""
        assert inputs.spans is not None
        alignment = inputs.spans.alignment
        if alignment is None or not bool((alignment >= 0).any()):
            raise DataError("no supervised step: no utterance of the batch has word times; run align, or loss=ctc")
        known = alignment >= 0
        logits = inputs.spans.logits.values[known].float()
        total = functional.cross_entropy(logits, alignment[known], reduction="sum")
        return LossOutput(total, int(known.sum()), {"alignment": total.detach()})
