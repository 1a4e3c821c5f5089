"""DiVA's adapter: Whisper's own decoder, asked by learned queries in place of tokens (arXiv 2410.02678)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from toolkit.adapters.attention import Attention, fresh_queries
from toolkit.errors import CheckpointError, ConfigError
from toolkit.interfaces import ADAPTERS, AdoptingAdapter
from toolkit.types import Padded

DECODER = "decoder."
"""opens the names of a Whisper's decoder"""
HEAD_WIDTH = 64
"""channels of an attention head in every Whisper"""
NAMES = (
    ("layers.", "blocks."), ("self_attn_layer_norm", "self_norm"), ("encoder_attn_layer_norm", "cross_norm"),
    ("final_layer_norm", "feedforward_norm"), ("self_attn.", "self_attention."),
    ("encoder_attn.", "cross_attention."), ("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"),
    ("out_proj", "out"), ("fc1", "widen"), ("fc2", "narrow"), ("layer_norm", "norm"),
    ("embed_positions.weight", "positions"),
)  # fmt: skip
"""what a Hugging Face Whisper calls things, and what they are called here; replaced in this order"""


class WhisperBlock(nn.Module):
    """A layer of Whisper's decoder: each step normalised first, then added; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, width, heads, key_bias=False)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, width, heads, key_bias=False)
        self.feedforward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Update (S, N, D) by (S, T, D) where `mask` (S, T) is True."""
        x = self.self_norm(queries)
        queries = queries + self.self_attention(x, x, causal=True)
        queries = queries + self.cross_attention(self.cross_norm(queries), keys, mask)
        x = nn.functional.gelu(self.widen(self.feedforward_norm(queries)))
        return queries + self.narrow(x)  # type: ignore[no-any-return]


@ADAPTERS.register("whisper_decoder_qformer")
class WhisperDecoderQFormerAdapter(AdoptingAdapter):
    """Runs Whisper's decoder on `queries` learned vectors, causally as Whisper does, then a linear layer.

    As wide as the frames. Defaults are DiVA's: 448 queries and the 32 layers of Whisper-large-v3.

    Args:
        input_dim: channels of a frame.
        output_dim: channels of an embedding.
        queries: embeddings for a span, however long.
        layers: blocks of the decoder.
        heads: of each attention; 0 for one to every 64 channels, as in every Whisper.
        weights: the Whisper with whose decoder a training begins: a folder, a hub id, `asset:NAME`, or `encoder` for
            the encoder's own. Empty: weights begin at random. Queries and projection always do.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        queries: int = 448,
        layers: int = 32,
        heads: int = 0,
        weights: str = "",
    ) -> None:
        super().__init__()
        self.weights = weights
        if layers < 1:
            raise ConfigError(f"adapter.layers must be at least 1, not {layers}")
        self.queries = fresh_queries(queries, input_dim)
        self.positions = fresh_queries(queries, input_dim)
        heads = heads or max(1, input_dim // HEAD_WIDTH)
        self.blocks = nn.ModuleList(WhisperBlock(input_dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(input_dim)
        self.project = nn.Linear(input_dim, output_dim)

    def forward(self, frames: Padded) -> Padded:
        """Adapt (S, T, input_dim) to (S, queries, output_dim)."""
        keys, mask = frames.zeroed(), frames.mask
        x = (self.queries + self.positions).expand(len(keys), -1, -1)
        for block in self.blocks:
            x = block(x, keys, mask)
        return Padded(self.project(self.norm(x)), self.output_lengths(frames.lengths))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of queries, whatever the length."""
        return lengths.new_full(lengths.shape, len(self.queries))

    @torch.no_grad()
    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a Whisper's decoder; queries and projection stay as they are.

        Args:
            state: `WhisperModel(...).state_dict()`, names as in Hugging Face's checkpoints.

        Raises:
            CheckpointError: it has other sizes than this adapter, and both are named; nothing is changed.
        """
        own = {name.removeprefix(DECODER): tensor for name, tensor in state.items() if name.startswith(DECODER)}
        theirs = {_ours(name): tensor for name, tensor in own.items() if not name.startswith("embed_tokens")}
        self._compare_sizes(theirs)
        theirs["positions"] = theirs["positions"][: len(self.queries)]
        mine = {name: p for name, p in self.named_parameters() if not name.startswith(("queries", "project"))}
        for name in sorted(mine.keys() | theirs.keys()):
            here, there = (tuple(side[name].shape) if name in side else "not there" for side in (mine, theirs))
            if here != there:
                raise CheckpointError(f"'{name}' is {there} in its decoder, and {here} in the adapter")
        for name, parameter in mine.items():
            parameter.copy_(theirs[name])

    def _compare_sizes(self, theirs: Mapping[str, Tensor]) -> None:
        """Refuse a decoder of other sizes by the names that a user knows them by."""
        if "positions" not in theirs:
            raise CheckpointError("it has no Whisper decoder: name a Whisper")
        positions, width = theirs["positions"].shape
        layers = len({name.split(".")[1] for name in theirs if name.startswith("blocks.")})
        if width != self.queries.shape[1]:
            raise CheckpointError(
                f"its decoder has {width} channels, and the encoder's frames have {self.queries.shape[1]}: "
                "name the Whisper that the encoder is of"
            )
        if layers != len(self.blocks):
            raise CheckpointError(f"its decoder has {layers} layers, and adapter.layers is {len(self.blocks)}")
        if positions < len(self.queries):
            raise CheckpointError(
                f"its decoder has {positions} positions, and adapter.queries is {len(self.queries)}: lower it"
            )


def _ours(name: str) -> str:
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name
