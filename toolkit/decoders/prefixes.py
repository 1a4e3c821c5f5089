"""Keys and values of frozen text that rows open with: a prompt's are the same at every step, so they may be kept.

Kept are those of plain attention over everything before, and of a model of which nothing is trained: for LoRA, or for
caches of other kinds, nothing is kept and all goes on as without. What is kept is bounded in bytes; what was not used
for longest goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer

from toolkit.errors import ConfigError

Prefix = tuple[int, ...]


class KeptPrefixes:
    """Prefixes by their tokens, each with the keys and values (heads, n, width) of every layer.

    Args:
        most: bytes to hold, at most; 0 keeps nothing.
    """

    def __init__(self, most: int) -> None:
        if most < 0:
            raise ConfigError(f"decoder.keep_prefixes is a number of megabytes, 0 or more, not {most / 10**6:g}")
        self.most = most
        self._held: dict[Prefix, list[tuple[Tensor, Tensor]]] = {}
        self._mark: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Return how many bytes are held."""
        return sum(map(_nbytes, self._held.values()))

    def holds(self, prefixes: Seq[Prefix]) -> bool:
        """Tell whether all of these are kept."""
        return all(prefix in self._held for prefix in prefixes)

    def open(
        self, model: nn.Module, prefixes: Seq[Prefix], run: Callable[[Seq[Prefix]], Any]
    ) -> tuple[DynamicCache, Tensor] | None:
        """Return a cache that holds different prefixes, padded on the right, and the mask (B, N) of what it holds.

        Args:
            model: whose keys and values they are.
            prefixes: B of them, the tokens of each.
            run: computes those that are not kept yet, padded on the right, and returns the model's cache.

        Returns:
            None where nothing may be kept.
        """
        if not self.most or not prefixes or not all(prefixes):
            return None
        parameters = list(model.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            return None
        mark = tuple((p.data_ptr(), p._version) for p in parameters)
        if mark != self._mark:  # other weights
            self._held.clear()
            self._mark = mark
        if new := [prefix for prefix in dict.fromkeys(prefixes) if prefix not in self._held]:
            cache = run(new)
            if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
                self.most = 0
                return None
            for row, prefix in enumerate(new):
                ends = row, slice(None), slice(len(prefix))
                self._held[prefix] = [(layer.keys[ends].clone(), layer.values[ends].clone()) for layer in cache.layers]
        used = {prefix: self._held.pop(prefix) for prefix in dict.fromkeys(prefixes)}
        self._held |= used  # the latest stand last
        self._forget()
        return _cache([used[prefix] for prefix in prefixes])

    def _forget(self) -> None:
        held = self.nbytes
        while held > self.most:
            held -= _nbytes(self._held.pop(next(iter(self._held))))


def common(prefixes: Seq[Prefix]) -> int:
    """Return how many tokens all prefixes begin with."""
    if not prefixes:
        return 0
    low, high = min(prefixes), max(prefixes)  # of sorted prefixes, these two differ first
    same = (a == b for a, b in zip(low, high, strict=False))
    return sum(takewhile(bool, same))


def _cache(held: Seq[list[tuple[Tensor, Tensor]]]) -> tuple[DynamicCache, Tensor]:
    lengths = [layers[0][0].shape[1] for layers in held]
    device = held[0][0][0].device
    ends = torch.tensor(lengths, device=device)
    cache = DynamicCache()
    for i, layer in enumerate(zip(*held, strict=True)):
        keys, values = (torch.stack([_padded(part[side], max(lengths)) for part in layer]) for side in (0, 1))
        cache.update(keys, values, i)
    return cache, (torch.arange(max(lengths), device=device) < ends[:, None]).long()


def _padded(part: Tensor, length: int) -> Tensor:
    return functional.pad(part, (0, 0, 0, length - part.shape[1]))


def _nbytes(layers: list[tuple[Tensor, Tensor]]) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in layers)
