"""Continuous integrate-and-fire: frames are gathered until their weights make one token (BLSP-KD, arXiv 2405.19041).

CIF is by Dong and Xu (arXiv 1905.11235). The layers around it are those of `CFormer` in BLSP-Emo (arXiv 2406.03872):
four Whisper layers, CIF, four Whisper layers, linear.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.adapters.attention import check_heads
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, CountingAdapter
from toolkit.types import Padded


def integrate_and_fire(weights: Padded, tail: float) -> tuple[Tensor, Tensor]:
    """Share the frames out among the outputs.

    Lay the weights (S, T) end to end: output u gets what lies between u and u + 1, so a frame on a border is shared.
    A rest of at least `tail` at the end is one more output, a smaller rest is dropped, and a row that never fires
    fires once. The last output is scaled to what it has gathered, for else a short span would be a faint one.

    Returns:
        Shares (S, U, T), which add up to 1 for each output, and how many outputs a row has (S,).
    """
    ends = weights.zeroed().cumsum(1)
    starts = nn.functional.pad(ends, (1, 0))[:, :-1]
    counts = (ends[:, -1] + 1 - tail).floor().long().clamp(min=1)
    number = torch.arange(int(counts.max()), device=ends.device)[:, None]
    shares = torch.minimum(ends[:, None], number + 1) - torch.maximum(starts[:, None], number)
    shares = shares.clamp(min=0)
    return shares / shares.sum(2, keepdim=True).clamp(min=1e-12), counts


@ADAPTERS.register("cif")
class CIFAdapter(CountingAdapter):
    """Transformer layers, a weight in (0, 1) for each frame, integrate-and-fire, transformer layers, linear.

    Published: four layers on each side, as wide as the encoder (`hidden_dim=null`). Not found and so ours: the
    weight is a linear layer and a sigmoid, which starts from one output every `frames_per_token` frames; `tail`, the
    other defaults, and that the number of outputs is never forced to the transcript's. `quantities` is what a length
    loss pulls there.
    """

    exact_lengths: ClassVar[bool] = False

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: int | None = 512,
        layers_before: int = 4,
        layers_after: int = 4,
        heads: int = 8,
        dropout: float = 0.1,
        frames_per_token: float = 8.0,
        tail: float = 0.5,
    ) -> None:
        super().__init__()
        width = hidden_dim or input_dim
        check_heads(width, heads)
        if frames_per_token <= 1:
            raise ConfigError(f"adapter.frames_per_token must be more than 1, not {frames_per_token}")
        if not 0 < tail <= 1:
            raise ConfigError(f"adapter.tail must be above 0 and at most 1, not {tail}")
        self.tail = tail
        self.project = nn.Linear(input_dim, width) if hidden_dim else nn.Identity()
        self.before = _layers(layers_before, width, heads, dropout)
        self.norm_before = nn.LayerNorm(width)
        self.weight = nn.Linear(width, 1)
        self.after = _layers(layers_after, width, heads, dropout)
        self.norm_after = nn.LayerNorm(width)
        self.out = nn.Linear(width, output_dim)
        nn.init.constant_(self.weight.bias, -math.log(frames_per_token - 1))

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt to about one embedding a token, at the weighted mean time of its frames; at least one a row."""
        hidden = self._hidden(frames)
        shares, counts = integrate_and_fire(self._weights(hidden), self.tail)
        fired = Padded(shares.to(hidden.values.dtype) @ hidden.values, counts)
        embeddings = self.out(self.norm_after(_attend(self.after, fired)))
        steps = torch.arange(shares.shape[2], device=shares.device)
        # Not a matrix product: mixed precision would round the times.
        times = torch.minimum((shares * steps).sum(2), (frames.lengths - 1)[:, None].to(shares))
        return Padded(embeddings, counts), times

    def quantities(self, frames: Padded) -> Tensor:
        """Sum the weights of each row, which is how many outputs it has before rounding: (S, T, input_dim) -> (S,)."""
        return self._weights(self._hidden(frames)).zeroed().sum(1)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the most there can be: one embedding a frame, since no weight is above 1."""
        return lengths

    def _hidden(self, frames: Padded) -> Padded:
        projected = Padded(self.project(frames.zeroed()), frames.lengths)
        return Padded(self.norm_before(_attend(self.before, projected)), frames.lengths)

    def _weights(self, hidden: Padded) -> Padded:
        """Weigh each frame: (S, T, width) -> (S, T), in single precision at least, since they will be added up."""
        return Padded(torch.sigmoid(self.weight(hidden.values).float()).squeeze(2), hidden.lengths)


def _layers(count: int, width: int, heads: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, nn.functional.gelu, batch_first=True, norm_first=True
        )
        for _ in range(count)
    )


def _attend(layers: nn.ModuleList, x: Padded) -> Tensor:
    """Run transformer layers in which nothing attends to padding: (S, T, width) -> (S, T, width)."""
    hidden, padding = x.values, ~x.mask
    for layer in layers:
        hidden = layer(hidden, src_key_padding_mask=padding)
    return hidden
