"""Frozen linear layers on a CPU, their weights laid out once in the order in which oneDNN's kernels read them.

The plain product lays them out anew in every call, which for the few rows of a step of generation costs as much as the
product itself: with 16 to 96 rows it takes 1.2 to 2 times as long (one core, fp32). The numbers are the same but for
the order of the sums. Weights that are packed are in memory twice, so a large model's are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.decoders.instead import run_instead

MOST = 4_000_000_000
"""bytes of weights that are kept twice, at most"""
ROWS = 32
"""rows for which the layout is chosen; it serves others as well"""


class PackedLinears:
    """The frozen fp32 linear layers of a model; inside `with` they run on packed weights."""

    def __init__(self, model: nn.Module) -> None:
        self._model = [model]  # in a list, so that whoever holds this does not own the model twice
        self._packed: dict[nn.Linear, tuple[tuple[int, int], Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is packed behind when copied: it has no storage that can be, and is made again."""
        return {"_model": self._model, "_packed": {}}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Pack what is new or has changed, and run on it inside the `with`."""
        linears = self._linears()
        for linear in linears:
            weight, (mark, _) = linear.weight, self._packed.get(linear, ((0, 0), None))
            if mark != (weight.data_ptr(), weight._version):
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
                self._packed[linear] = (weight.data_ptr(), weight._version), packed
        with run_instead({linear: partial(_product, self._packed[linear][1], linear.bias) for linear in linears}):
            yield

    def _linears(self) -> list[nn.Linear]:
        """Return the layers to pack: none where they learn, lie elsewhere, are of another precision or too many."""
        (model,) = self._model
        found = [module for module in model.modules() if type(module) is nn.Linear and _fits(module.weight)]
        small = sum(module.weight.nbytes for module in found) <= MOST
        return found if small and torch.backends.mkldnn.is_available() else []


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad


def _product(packed: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]
