"""A weighted sum of other losses, such as imitation with a CTC anchor on the adapter."""

from __future__ import annotations

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("weighted")
class WeightedLoss(Loss):
    """Adds losses by `weights`, each averaged over its own count first so that weights mean what they say."""

    def __init__(self, *, weights: dict[str, float]) -> None:
        super().__init__()
        if not weights:
            raise ConfigError("loss.weights is empty: name the losses to add, such as {cross_entropy: 1, ctc: 0.3}")
        self.names = list(weights)
        self.weights = list(weights.values())
        self.losses = [LOSSES[name]() for name in self.names]
        self.needs = frozenset().union(*(loss.needs for loss in self.losses))  # type: ignore[misc]

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Return the sum, counted in the items of the first loss."""
        outputs = [loss(inputs) for loss in self.losses]
        count = outputs[0].count
        total = outputs[0].total * self.weights[0]
        for weight, output in zip(self.weights[1:], outputs[1:], strict=True):
            total = total + output.total * (weight * count / output.count)
        parts = {name: value * (count / output.count) for output in outputs for name, value in output.parts.items()}
        return LossOutput(total, count, parts)
