"""DeSTA's Q-Former over several layers of the encoder (arXiv 2409.20007 and 2507.02768)."""

import torch
from torch import Tensor, nn

from toolkit.adapters.attention import QFormer, fresh_queries
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, Adapter
from toolkit.types import Padded


@ADAPTERS.register("multilayer_qformer")
class MultilayerQFormerAdapter(Adapter):
    """Asks each tapped layer its own queries through one Q-Former, then mixes the answers.

    Frames hold the `taps` layers one after another on the channel axis. Query n is answered by every layer, and
    the answers are averaged with weights of its own (a softmax over layers); then layer norm and linear.
    As published: 64 queries for each of 4 layers; 2 layers of Q-Former in DeSTA2, 6 in DeSTA2.5. The Q-Former
    is a BERT encoder as wide as the speech encoder: `hidden_dim` and `heads` here fit Whisper-small.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        taps: int = 4,
        queries: int = 64,
        layers: int = 2,
        hidden_dim: int = 768,
        heads: int = 12,
        feedforward_dim: int = 3072,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if taps < 1 or input_dim % taps:
            raise ConfigError(
                f"adapter.taps {taps} does not divide the {input_dim} channels of a frame: "
                "set it to the number of encoder layers that are tapped"
            )
        self.taps = taps
        self.queries = fresh_queries(taps, queries, hidden_dim)
        self.mix = nn.Parameter(torch.zeros(queries, taps))
        self.qformer = QFormer(
            hidden_dim, input_dim // taps, layers=layers, heads=heads, feedforward_dim=feedforward_dim,
            dropout=dropout, query_norm=False,
        )  # fmt: skip
        self.project = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, output_dim))

    def forward(self, frames: Padded) -> Padded:
        """Adapt (S, T, taps * K) to (S, queries, output_dim)."""
        rows = len(frames.lengths)
        # One batch of S * taps rows: the Q-Former is the same for all layers.
        layers = frames.values.unflatten(-1, (self.taps, -1)).transpose(1, 2).flatten(0, 1)
        queries = self.queries.repeat(rows, 1, 1)
        answers = self.qformer(queries, Padded(layers, frames.lengths.repeat_interleave(self.taps)))
        weights = self.mix.softmax(-1).T[..., None]
        mixed = (answers.unflatten(0, (rows, self.taps)) * weights).sum(1)
        return Padded(self.project(mixed), self.output_lengths(frames.lengths))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of queries of one layer, whatever the length."""
        return lengths.new_full(lengths.shape, len(self.mix))
