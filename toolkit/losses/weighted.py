"""A weighted sum of other losses, such as imitation with a CTC anchor on the adapter."""

from __future__ import annotations

from typing import Any

import torch

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("weighted")
class WeightedLoss(Loss):
    """Adds the *sums* of losses by `weights` and counts the items of the first.

    Sums, not averages: an average over each loss's own count would make the result depend on how a batch is
    split. A loss with more items than the first (CTC steps against answer tokens) wants a smaller weight.
    `options` are those of the losses, by name: `{hidden: {positions: first}}`.
    """

    def __init__(
        self,
        *,
        weights: dict[str, float],
        options: dict[str, dict[str, Any]] = {},  # noqa: B006 - the schema copies it
    ) -> None:
        super().__init__()
        if not weights:
            raise ConfigError("loss.weights is empty: name the losses to add, such as {cross_entropy: 1, ctc: 0.3}")
        self.names = list(weights)
        self.weights = list(weights.values())
        if stray := sorted(options.keys() - weights.keys()):
            raise ConfigError(f"loss.options are of {', '.join(stray)}, and loss.weights has {', '.join(weights)} only")
        self.losses = [LOSSES.build({"name": name, **options.get(name, {})}) for name in self.names]
        self.needs = frozenset().union(*(loss.needs for loss in self.losses))  # type: ignore[misc]
        self.stored_teacher = all(loss.stored_teacher for loss in self.losses if "teacher" in loss.needs)  # type: ignore[misc]

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Return the weighted sum, counted in the items of the first loss."""
        outputs = [loss(inputs) for loss in self.losses]
        total = torch.stack([weight * o.total for weight, o in zip(self.weights, outputs, strict=True)]).sum()
        parts = {name: value for output in outputs for name, value in output.parts.items()}
        return LossOutput(total, outputs[0].count, parts)
