"""The limit: the matrix products that the frozen LLM cannot be spared, one after another and nothing between.

For each forward pass of ours: every linear layer on the positions behind the frozen prefixes, forward and backward to
the inputs, and the output matrix on the supervised positions, forward and backward. What stands before the speech
needs no gradient and is the same for ever, so each distinct prefix is run forward once in the whole turn. No padding,
no attention, no norms, no loss, no adapter, no optimiser. All layers are counted for all these positions; whoever runs
the last MLP at supervised positions alone, as ours does, spares 2 % of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.turns import Steps, Turn
from benchmarks.workload import BF16, Spec, config_of
from toolkit.models.build import build_decoder

Product = tuple[Tensor, Tensor, Tensor]
"""(a, b, out): out = a @ b"""


class Buffers:
    """Inputs and outputs of products, one of each shape."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._made: dict[tuple[str, int, int], Tensor] = {}

    def __call__(self, kind: str, rows: int, width: int) -> Tensor:
        """Return (rows, width) for inputs or outputs."""
        key = (kind, rows, width)
        if key not in self._made:
            self._made[key] = torch.randn(rows, width, dtype=self.dtype)
        return self._made[key]


def products(weights: Seq[Tensor], rows: int, buffers: Buffers, *, backward: bool) -> list[Product]:
    """Return the products of linear layers (out, in) on `rows` inputs, and of the gradients to these."""
    if not rows:
        return []
    forward = [(buffers("x", rows, w.shape[1]), w.t(), buffers("y", rows, w.shape[0])) for w in weights]
    back = [(buffers("y", rows, w.shape[0]), w, buffers("x", rows, w.shape[1])) for w in reversed(weights)]
    return forward + back if backward else forward


def multiply(batch: Seq[Product]) -> None:
    """Run products."""
    for a, b, out in batch:
        torch.mm(a, b, out=out)


@torch.no_grad()
def run(spec: Spec) -> Turn:
    """Multiply what one turn of ours had to."""
    ours: dict[str, Any] = json.loads(Path(spec.needed).read_text())
    decoder = build_decoder({**config_of(spec).decoder, "dtype": BF16 if spec.mode == BF16 else "fp32"})
    lm: Any = decoder.lm
    layers = [module.weight for module in lm.base_model.modules() if isinstance(module, nn.Linear)]
    head, buffers = lm.get_output_embeddings().weight, Buffers(lm.dtype)
    batches = [
        products(layers, rows, buffers, backward=True) + products([head], supervised, buffers, backward=True)
        for rows, supervised in ours["needed"]
    ]
    batches.append(products(layers, ours["prefix"], buffers, backward=False))
    steps = Steps()
    steps.begin()
    multiply(batches[0])
    steps.end(0, float("nan"))
    for batch in batches[:-1]:
        multiply(batch)
    multiply(batches[-1])
    steps.end(ours["utterances"], float("nan"))
    return steps.turn()
