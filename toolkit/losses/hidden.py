"""Distance of the last hidden states of student and teacher: the response loss of DiVA (arXiv 2410.02678)."""

from typing import ClassVar

import torch

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput

POSITIONS = ("all", "first")


@LOSSES.register("hidden")
class HiddenLoss(Loss):
    """Euclidean distance, not squared, between the last hidden states at the supervised positions.

    Both passes share one frozen output matrix, so equal states mean equal distributions. DiVA takes the position
    of the first answer token alone: `positions: first`, which counts answers. `all` supervised positions, each
    counted alike, is ours. DiVA's second term, between speech and text embeddings, is the loss `embedding`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"student", "teacher"})

    def __init__(self, *, positions: str = "all") -> None:
        super().__init__()
        if positions not in POSITIONS:
            raise ConfigError(f"loss.positions is one of {', '.join(POSITIONS)}, not '{positions}'")
        self.first = positions == "first"

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the distance over the positions; 0 when student and teacher agree."""
        assert inputs.student is not None
        assert inputs.teacher is not None
        difference = inputs.student.hidden.float() - inputs.teacher.hidden.float()
        if self.first:
            assert inputs.starts is not None
            difference = difference[inputs.starts]
        # The norm, unlike a root of a sum of squares, has a gradient of 0 and not NaN where the two agree.
        total = torch.linalg.vector_norm(difference, dim=-1).sum()
        return LossOutput(total, len(difference), {"hidden": total.detach()})
