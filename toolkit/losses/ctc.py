"""CTC of the transcript on a token adapter's output: trains the adapter without running the decoder."""

from typing import ClassVar

from torch.nn import functional

from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("ctc")
class CTCLoss(Loss):
    """Connectionist temporal classification (Graves et al. 2006) over the adapter's tokens and a blank.

    An utterance with more tokens than time steps has no alignment: it adds nothing, as `zero_infinity` says.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"spans"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over utterances; it is counted in transcript tokens."""
        assert inputs.spans is not None
        logits, targets = inputs.spans.logits, inputs.spans.targets
        count = int(targets.lengths.sum())
        if count == 0:
            return LossOutput(0 * logits.values.sum(), 0, {"ctc": logits.values.new_zeros(())})
        total = functional.ctc_loss(
            functional.log_softmax(logits.values.float(), dim=-1).transpose(0, 1),
            targets.values,
            logits.lengths,
            targets.lengths,
            blank=0,
            reduction="sum",
            zero_infinity=True,
        )
        return LossOutput(total, count, {"ctc": total.detach()})
