"""The limit: the matrix products that the frozen LLM cannot be spared, one after another and nothing between.

For each forward pass of ours, what stands behind the frozen prefixes, forward and backward to the inputs: every linear
layer, queries by keys and weights by values in attention, and the output matrix at the supervised positions. The last
layer has keys and values at all positions, and all else at supervised ones. What stands before the speech needs no
gradient and is the same for ever, so each distinct prefix is run forward once in the whole turn. No padding, no
softmax, no norms, no loss, no adapter, no optimiser.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.turns import Steps, Turn
from benchmarks.workload import BF16, Spec, config_of
from toolkit.models.build import build_decoder

ATTENTION = "attention"
"""seconds of a turn that are attention's"""
KEYS_AND_VALUES = ("k_proj", "v_proj")


class Heads(NamedTuple):
    """Of attention."""

    queries: int
    groups: int
    """that share keys and values"""
    width: int


Product = tuple[Tensor, Tensor, Tensor]
"""(a, b, out): out = a @ b, matrices or as many of them as there are rows and groups of heads"""


class Needed(NamedTuple):
    """What the LLM must compute of a forward pass."""

    positions: int
    """behind the frozen prefixes, of all rows"""
    supervised: int
    rows: int
    before: int
    """positions of the frozen prefixes, of all rows"""


class Buffers:
    """Inputs and outputs of products, one of each shape."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._made: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, kind: str, *shape: int) -> Tensor:
        """Return a tensor for inputs or outputs."""
        key = kind, shape
        if key not in self._made:
            self._made[key] = torch.randn(shape, dtype=self.dtype)
        return self._made[key]


def products(weights: Seq[Tensor], rows: int, buffers: Buffers, *, backward: bool) -> list[Product]:
    """Return the products of linear layers (out, in) on `rows` inputs, and of the gradients to these."""
    if not rows:
        return []
    forward = [(buffers("x", rows, w.shape[1]), w.t(), buffers("y", rows, w.shape[0])) for w in weights]
    back = [(buffers("y", rows, w.shape[0]), w, buffers("x", rows, w.shape[1])) for w in reversed(weights)]
    return forward + back if backward else forward


def attention(heads: Heads, count: int, asked: int, length: int, before: int, buffers: Buffers) -> list[Product]:
    """Return the products of attention in one layer, forward and backward.

    Args:
        heads: of the LLM.
        count: rows.
        asked: positions of a row that attend.
        length: positions of a row, whose keys and values get a gradient.
        before: positions of a row before these, which get none.
        buffers: what is multiplied.
    """
    many, queries, seen = count * heads.groups, asked * heads.queries // heads.groups, before + length
    if not many * queries:
        return []
    query, key = buffers("q", many, queries, heads.width), buffers("k", many, seen, heads.width)
    weights, learning = buffers("w", many, queries, seen), buffers("w", many, queries, length)
    own = buffers("k", many, length, heads.width)
    forward = [(query, key.mT, weights), (weights, key, query)]
    of_values, of_weights = (learning.mT, query, own), (query, key.mT, weights)
    return [*forward, of_values, of_weights, (weights, key, query), (learning.mT, query, own)]


def multiply(batch: Seq[Product]) -> None:
    """Run products."""
    for a, b, out in batch:
        (torch.mm if a.dim() == 2 else torch.bmm)(a, b, out=out)


class Layers:
    """The products of a model's layers."""

    def __init__(self, lm: Any) -> None:
        config, layers = lm.config, lm.base_model.layers
        every = [m.weight for layer in layers for m in layer.modules() if isinstance(m, nn.Linear)]
        last = {name: m.weight for name, m in layers[-1].named_modules() if isinstance(m, nn.Linear)}
        self.asked = [weight for name, weight in last.items() if not name.endswith(KEYS_AND_VALUES)]
        self.whole = [weight for weight in every if all(weight is not other for other in self.asked)]
        self.head = lm.get_output_embeddings().weight
        self.heads = Heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        self.count = len(layers)

    def linear(self, needed: Needed, buffers: Buffers) -> list[Product]:
        """Return those of linear layers in a forward pass, there and back."""
        whole = products(self.whole, needed.positions, buffers, backward=True)
        return whole + products([*self.asked, self.head], needed.supervised, buffers, backward=True)

    def attention(self, needed: Needed, buffers: Buffers) -> list[Product]:
        """Return those of attention; rows count as if all were of their mean length, rounded down."""
        asked, length, before = (n // needed.rows for n in (needed.supervised, needed.positions, needed.before))
        whole = attention(self.heads, needed.rows, length, length, before, buffers)
        return whole * (self.count - 1) + attention(self.heads, needed.rows, asked, length, before, buffers)


@torch.no_grad()
def run(spec: Spec) -> Turn:
    """Multiply what one turn of ours had to."""
    ours: dict[str, Any] = json.loads(Path(spec.needed).read_text())
    decoder = build_decoder({**config_of(spec).decoder, "dtype": BF16 if spec.mode == BF16 else "fp32"})
    lm: Any = decoder.lm
    layers, buffers = Layers(lm), Buffers(lm.dtype)
    passes = [Needed(*each) for each in ours["needed"]]
    linear = [layers.linear(each, buffers) for each in passes]
    linear.append(products(layers.whole, ours["prefix"], buffers, backward=False))
    attended = [layers.attention(each, buffers) for each in passes]
    steps = Steps()
    steps.begin(lm)
    multiply(linear[0] + attended[0])
    steps.end(0, float("nan"))
    for batch in linear:
        multiply(batch)
    begun = time.perf_counter()
    for batch in attended:
        multiply(batch)
    attention_seconds = time.perf_counter() - begun
    steps.end(ours["utterances"], float("nan"))
    return steps.turn(**{ATTENTION: attention_seconds})
