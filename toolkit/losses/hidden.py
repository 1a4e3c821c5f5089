"""Distance of the last hidden states of student and teacher: the response loss of DiVA (arXiv 2410.02678)."""

from typing import ClassVar

import torch

from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput


@LOSSES.register("hidden")
class HiddenLoss(Loss):
    """Euclidean distance, not squared, between the last hidden states at the supervised positions.

    Both passes share one frozen output matrix, so equal states mean equal distributions. DiVA takes the position
    of the first answer token alone; here all supervised positions count alike, which is ours: a loss is not told
    where an answer begins. An answer of one token is the published form. DiVA's second term, between speech and
    text embeddings, is not part of it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"student", "teacher"})

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the distance over the M supervised positions; 0 when student and teacher agree."""
        assert inputs.student is not None
        assert inputs.teacher is not None
        difference = inputs.student.hidden.float() - inputs.teacher.hidden.float()
        # The norm, unlike a root of a sum of squares, has a gradient of 0 and not NaN where the two agree.
        total = torch.linalg.vector_norm(difference, dim=-1).sum()
        return LossOutput(total, len(inputs.targets), {"hidden": total.detach()})
