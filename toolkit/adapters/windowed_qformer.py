"""SALMONN's window-level Q-Former: a few queries for each stretch of frames (arXiv 2310.13289)."""

import torch
from torch import Tensor, nn

from toolkit.adapters.attention import QFormer, fresh_queries
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.types import Padded


@ADAPTERS.register("windowed_qformer")
class WindowedQFormerAdapter(TimedAdapter):
    """Asks `queries` queries about every `window` frames, then a linear layer.

    As published: 1 query for 17 frames (0.33 s of Whisper), BERT-base widths, 2 layers that all attend to the
    frames. SALMONN drops a remainder of less than `window` frames; here it is a window of its own whose missing
    frames are not attended to, so that a short span still has an embedding. `streams` are the widths of
    encoders whose frames are concatenated (Whisper's and BEATs's), each normalised alone; empty: no norm.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        window: int = 17,
        queries: int = 1,
        layers: int = 2,
        hidden_dim: int = 768,
        heads: int = 12,
        feedforward_dim: int = 3072,
        dropout: float = 0.1,
        streams: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        if window < 1:
            raise ConfigError(f"adapter.window must be at least 1 frame, not {window}")
        if streams and sum(streams) != input_dim:
            raise ConfigError(f"adapter.streams add up to {sum(streams)} channels, but frames have {input_dim}")
        self.window = window
        self.streams = list(streams)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in streams)
        self.queries = fresh_queries(queries, hidden_dim)
        self.qformer = QFormer(
            hidden_dim, input_dim, layers=layers, heads=heads, feedforward_dim=feedforward_dim, dropout=dropout
        )
        self.project = nn.Linear(hidden_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, queries * ceil(T / window), output_dim)."""
        values = frames.zeroed()
        values = nn.functional.pad(values, (0, 0, 0, -values.shape[1] % self.window))
        values = values.unflatten(1, (-1, self.window))
        starts = torch.arange(values.shape[1], device=values.device) * self.window
        sizes = (frames.lengths.to(values.device)[:, None] - starts).clamp(min=0, max=self.window)
        # Only windows that hear something are run: of nothing, attention would be NaN.
        heard = sizes > 0
        windows = Padded(self._normalised(values[heard]), sizes[heard])
        hidden = self.qformer(self.queries.expand(len(windows.lengths), -1, -1), windows)
        embeddings = self.project(hidden).flatten(0, 1)
        rows = Padded.of(embeddings.split(self.output_lengths(frames.lengths).tolist()))
        return rows, self._times(starts, sizes)[:, : rows.values.shape[1]]

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the queries of ceil(T / window) windows."""
        return -(-lengths // self.window) * len(self.queries)

    def _times(self, starts: Tensor, sizes: Tensor) -> Tensor:
        """Spread the queries of each window evenly over its frames: starts (W,), sizes (S, W) -> (S, W * N)."""
        share = (torch.arange(len(self.queries), device=starts.device) + 0.5) / len(self.queries)
        frames = sizes.clamp(min=1)[..., None].float()
        within = (share * frames - 0.5).clamp(min=0).minimum(frames - 1)
        return (starts[:, None] + within).flatten(1)

    def _normalised(self, values: Tensor) -> Tensor:
        if not self.streams:
            return values
        parts = values.split(self.streams, -1)
        return torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)], -1)
