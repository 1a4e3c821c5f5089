"""What is said of the next token at M positions: scores over the vocabulary, all or in parts, or what is kept of them.

Letters are those of `toolkit.types`, which hands these types on.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What the decoder computes, at the supervised positions only."""

    scores: Tensor | Callable[[Tensor], Tensor]
    """(M, V); or what makes them of `hidden`, where all at once would be too many"""
    hidden: Tensor
    """(M, D), the last hidden state"""
    together: int = 0
    """for scores that are still to be made: of how many positions at a time"""

    @property
    def logits(self) -> Tensor:
        """The scores of all positions at once, (M, V); a loss that sums over positions can do with `in_chunks`."""
        return self.scores if isinstance(self.scores, Tensor) else self.scores(self.hidden)

    def part(self, rows: slice) -> Outputs:
        """Return what is computed at some of the positions."""
        scores = self.scores[rows] if isinstance(self.scores, Tensor) else self.scores
        return Outputs(scores, self.hidden[rows], self.together)

    def split(self, sizes: Seq[int]) -> list[Outputs]:
        """Return what is computed at so many positions each, in order."""
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return [self.part(slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


@dataclass(frozen=True)
class TopK:
    """A next-token distribution at M positions: its k likeliest tokens, and all others together as one outcome."""

    token_ids: Tensor
    """(M, k) int64"""
    log_probs: Tensor
    """(M, k + 1) natural logarithms, the last of all other tokens together; (M, k) where k is the whole vocabulary"""

    @classmethod
    def of(cls, logits: Tensor, k: int) -> TopK:
        """Keep the k likeliest tokens, or all there are, of `logits` (M, V)."""
        token_ids = logits.topk(min(k, logits.shape[1])).indices
        return cls(token_ids, _outcomes(logits, token_ids))

    @classmethod
    def cat(cls, rows: Seq[TopK]) -> TopK:
        """Put rows one after another."""
        return cls(torch.cat([row.token_ids for row in rows]), torch.cat([row.log_probs for row in rows]))

    def part(self, rows: slice) -> TopK:
        """Return the distribution at some of the positions."""
        return TopK(self.token_ids[rows], self.log_probs[rows])

    def same_outcomes(self, logits: Tensor) -> Tensor:
        """Return the log-probabilities that `logits` (M, V) give to these very outcomes, shaped as `log_probs`."""
        return _outcomes(logits, self.token_ids)

    def to(self, device: torch.device | str) -> TopK:
        """Return the same distribution on `device`."""
        return TopK(self.token_ids.to(device), self.log_probs.to(device))


def _outcomes(logits: Tensor, token_ids: Tensor) -> Tensor:
    log_probs = logits.float().log_softmax(-1)
    chosen = log_probs.gather(-1, token_ids)
    if token_ids.shape[1] == logits.shape[1]:
        return chosen
    # Summed, not one minus the chosen: a difference of nearly equal numbers would be rounding alone.
    rest = log_probs.scatter(-1, token_ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([chosen, rest], dim=-1)
