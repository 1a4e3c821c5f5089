"""An anchor for imitation: CTC on the transcripts beside the recipe's loss, so that recognition is not unlearnt.

Ours. With minutes of imitation the answers alone pull the adapter away from what its warm start recognises.
"""

from __future__ import annotations

from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


class AnchoredLoss(Loss):
    """Adds `weight` times the sum of CTC to the sum of another loss, and counts the items of the other."""

    def __init__(self, loss: Loss, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight
        self.anchor = LOSSES.build({"name": "ctc"})
        self.needs = loss.needs | self.anchor.needs  # type: ignore[misc]
        self.stored_teacher = loss.stored_teacher  # type: ignore[misc]

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Return the sum of both."""
        output, anchor = self.loss(inputs), self.anchor(inputs)
        total = output.total + self.weight * anchor.total
        return LossOutput(total, output.count, {**output.parts, **anchor.parts})
