"""A fixed number of queries for a span of any length: BLIP-2's Q-Former (arXiv 2301.12597) on speech."""

from torch import Tensor, nn

from toolkit.adapters.attention import QFormer, fresh_queries
from toolkit.interfaces import ADAPTERS, Adapter
from toolkit.types import Padded


@ADAPTERS.register("qformer")
class QFormerAdapter(Adapter):
    """Says every span in `queries` embeddings, then a linear layer.

    64 queries as in SLAM-LLM's Q-Former variant; the widths are BERT-base's; the number of layers is ours, and
    all of them attend to the frames. A short span costs as many embeddings as a long one: for interleaving by
    words see `windowed_qformer`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        queries: int = 64,
        layers: int = 2,
        hidden_dim: int = 768,
        heads: int = 12,
        feedforward_dim: int = 3072,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.queries = fresh_queries(queries, hidden_dim)
        self.qformer = QFormer(
            hidden_dim, input_dim, layers=layers, heads=heads, feedforward_dim=feedforward_dim, dropout=dropout
        )
        self.project = nn.Linear(hidden_dim, output_dim)

    def forward(self, frames: Padded) -> Padded:
        """Adapt (S, T, input_dim) to (S, queries, output_dim)."""
        hidden = self.qformer(self.queries.expand(len(frames.lengths), -1, -1), frames)
        return Padded(self.project(hidden), self.output_lengths(frames.lengths))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of queries, whatever the length."""
        return lengths.new_full(lengths.shape, len(self.queries))
