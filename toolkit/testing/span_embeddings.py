"""Spans of speech and the text of their words, for the law of losses: each row is the same whatever it is with."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from toolkit.types import SpanEmbeddings

SPANS = (((3,), 1), ((4, 5, 6), 2), ((), 3), ((3,), 2), ((7, 8), 5))
"""of each row, tokens and number of embeddings: unknown words, twice the same, fewer embeddings than tokens"""


def span_embeddings(rows: Seq[int]) -> SpanEmbeddings:
    """Make five spans a row, 4 wide, whose speech tensors are leaves of the gradient."""

    def draw(seed: int, length: int) -> Tensor:
        return torch.randn(length, 4, generator=torch.Generator().manual_seed(seed))

    spans = [(row, place, *span) for row in rows for place, span in enumerate(SPANS)]
    return SpanEmbeddings(
        speech=tuple(draw(10 * row + place, length).requires_grad_() for row, place, _, length in spans),
        text=tuple(torch.cat([draw(-1 - t, 1) for t in tokens] or [draw(0, 0)]) for _, _, tokens, _ in spans),
        tokens=tuple(tokens for _, _, tokens, _ in spans),
        rows=tuple(i for i in range(len(rows)) for _ in SPANS),
    )
