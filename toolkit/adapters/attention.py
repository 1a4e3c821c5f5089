"""Queries that attend to frames: multi-head attention, and BLIP-2's Q-Former made of it (arXiv 2301.12597).

Letters beside those of `toolkit.types`: N queries, H width of the queries, K width of what they attend to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.types import Padded

EPSILON = 1e-12
"""of the layer norms, BERT's"""
SPREAD = 0.02
"""standard deviation of fresh weights and queries, BERT's"""


def check_heads(width: int, heads: int, key: str = "heads") -> None:
    """Refuse a width that does not divide among heads.

    Raises:
        ConfigError: naming both numbers.
    """
    if heads < 1 or width < 1 or width % heads:
        raise ConfigError(f"adapter.hidden_dim {width} is not a multiple of adapter.{key} {heads}")


class Attention(nn.Module):
    """Multi-head attention over keys that may have a width of their own."""

    def __init__(self, width: int, key_width: int, heads: int, *, dropout: float = 0.0, key_bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"adapter.heads {heads} does not divide the {width} channels of a query")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(key_width, width, bias=key_bias)
        self.value = nn.Linear(key_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Attend from (S, N, H) to (S, T, K); `mask` (S, T) is True where there is something: (S, N, H)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        heard = nn.functional.scaled_dot_product_attention(
            q, k, v,
            attn_mask=None if mask is None else mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )  # fmt: skip
        return self.out(heard.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class QFormerLayer(nn.Module):
    """Queries attend to each other, then to the frames, then think: each step added, then normalised (as BERT)."""

    def __init__(self, width: int, key_width: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, width, heads, dropout=dropout)
        self.self_norm = nn.LayerNorm(width, EPSILON)
        self.cross_attention = Attention(width, key_width, heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(width, EPSILON)
        self.widen = nn.Linear(width, feedforward_dim)
        self.narrow = nn.Linear(feedforward_dim, width)
        self.feedforward_norm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Update (S, N, H) by (S, T, K) where `mask` (S, T) is True."""
        x = self.self_norm(queries + self.dropout(self.self_attention(queries, queries)))
        x = self.cross_norm(x + self.dropout(self.cross_attention(x, keys, mask)))
        thought = self.narrow(nn.functional.gelu(self.widen(x)))
        return self.feedforward_norm(x + self.dropout(thought))  # type: ignore[no-any-return]


class QFormer(nn.Module):
    """A stack of layers, each of which attends to the frames.

    `query_norm` normalises the queries before the first layer, as BLIP-2 does and a bare BERT encoder does not.
    """

    def __init__(
        self,
        width: int,
        key_width: int,
        *,
        layers: int,
        heads: int,
        feedforward_dim: int,
        dropout: float,
        query_norm: bool = True,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ConfigError(f"adapter.layers must be at least 1, not {layers}")
        start = (nn.LayerNorm(width, EPSILON), nn.Dropout(dropout)) if query_norm else ()
        self.start = nn.Sequential(*start)
        self.layers = nn.ModuleList(
            QFormerLayer(width, key_width, heads, feedforward_dim, dropout) for _ in range(layers)
        )
        self.apply(_draw)

    def forward(self, queries: Tensor, frames: Padded) -> Tensor:
        """Ask the queries (S, N, H) about the frames (S, T, K): (S, N, H)."""
        # Masked keys have no weight, but 0 * NaN is NaN: padding is zeroed too.
        keys, mask = frames.zeroed(), frames.mask
        x = self.start(queries)
        for layer in self.layers:
            x = layer(x, keys, mask)
        return x  # type: ignore[no-any-return]


def fresh_queries(*shape: int) -> nn.Parameter:
    """Draw learned queries.

    Raises:
        ConfigError: a size is below 1, so that there would be no embedding.
    """
    if min(shape) < 1:
        raise ConfigError(f"adapter.queries must be at least 1, not {min(shape)}")
    return nn.Parameter(SPREAD * torch.randn(*shape))


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
