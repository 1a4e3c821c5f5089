"""LTU-AS's projector: attention over time, then over the layers of the encoder (arXiv 2309.14405, `TLTR`)."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.adapters.attention import check_heads
from toolkit.adapters.stack import group_means
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.types import Padded


@ADAPTERS.register("time_layer")
class TimeLayerAdapter(TimedAdapter):
    """Means of `pool` frames; a transformer layer over time; one over `taps` layers; their mean, norm and Linear.

    Frames are the channels of `taps` encoder layers side by side, in the encoder's order; LTU-AS takes all 32 of
    Whisper. All layers share the transformer over time, all times share the one over layers, and neither knows
    positions. Published: 20 frames to one, 1 and 8 heads, each layer as wide as the encoder's (`hidden_dim=null`).
    A narrower width with a linear layer before it is ours, as is the mean of a last group of fewer frames.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        taps: int = 1,
        pool: int = 20,
        hidden_dim: int | None = 512,
        time_heads: int = 1,
        layer_heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if taps < 1 or input_dim % taps:
            raise ConfigError(
                f"frames of {input_dim} channels are not those of adapter.taps {taps} layers of one width: "
                "set adapter.taps to the number of layers that the encoder gives"
            )
        if pool < 1:
            raise ConfigError(f"adapter.pool must be at least 1, not {pool}")
        width = hidden_dim or input_dim // taps
        for name, heads in (("time_heads", time_heads), ("layer_heads", layer_heads)):
            check_heads(width, heads, name)
        self.taps = taps
        self.pool = pool
        self.project = nn.Linear(input_dim // taps, width) if hidden_dim else nn.Identity()
        self.over_time = _transformer(width, time_heads, dropout)
        self.over_layers = _transformer(width, layer_heads, dropout)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, taps * width) to (S, ceil(T / pool), output_dim)."""
        pooled, times = group_means(frames, self.pool)
        rows, steps, _ = pooled.values.shape
        x = self.project(pooled.values.unflatten(2, (self.taps, -1)))
        x = x.transpose(1, 2).flatten(0, 1)
        x = self.over_time(x, src_key_padding_mask=(~pooled.mask).repeat_interleave(self.taps, 0))
        x = x.unflatten(0, (rows, self.taps)).transpose(1, 2).flatten(0, 1)
        x = self.over_layers(x).mean(1).unflatten(0, (rows, steps))
        return Padded(self.out(self.norm(x)), pooled.lengths), times

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / pool)."""
        return -(-lengths // self.pool)


def _transformer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout, nn.functional.gelu, batch_first=True, norm_first=True
    )
