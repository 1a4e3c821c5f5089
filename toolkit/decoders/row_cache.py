"""Keys and values of rows that are being continued: with room to grow in, and brought together from several runs.

Transformers' cache copies all that it holds for every new token. A layer here holds a block that is longer than what is
in it, so that a step writes its own keys and values alone. Only plain attention over everything before is kept so; the
caches of other models (windows, states) stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 32
"""steps that a block is made longer than what is in it"""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types that mypy may follow
    """One layer's keys and values, (B, heads, N, width): the first N steps of two blocks. It cannot learn."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._blocks = (keys, values)
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take in the keys and values of a step; return all."""
        end = self.keys.shape[-2] + key_states.shape[-2]
        keys, values = self._blocks
        self._blocks = _appended(keys, self.keys, key_states), _appended(values, self.values, value_states)
        self.keys, self.values = (block[..., :end, :] for block in self._blocks)
        return self.keys, self.values


def roomy(cache: Any) -> Any:
    """Give the layers of a cache room, if all of them are plain attention over everything before."""
    if type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [RoomyLayer(layer.keys, layer.values, layer.keys.shape[-2]) for layer in cache.layers]
    return cache


def is_roomy(cache: Any) -> bool:
    """Tell whether `joined` takes a cache."""
    return type(cache) is DynamicCache and all(type(layer) is RoomyLayer for layer in cache.layers)


def joined(caches: Seq[Any]) -> Any:
    """Bring the rows of several roomy caches together, each row at the end of the longest; the first is used up."""
    longest = max(cache.get_seq_length() for cache in caches)
    for i in range(len(caches[0].layers)):
        layers = [cache.layers[i] for cache in caches]
        keys, values = _ending([x.keys for x in layers], longest), _ending([x.values for x in layers], longest)
        caches[0].layers[i] = RoomyLayer(keys, values, longest)
    return caches[0]


def _ending(parts: Seq[Tensor], length: int) -> Tensor:
    """Join (B_i, heads, N_i, width) to a block of (B, heads, length, width) and room, zeros before what is shorter."""
    _, heads, _, width = parts[0].shape
    whole = parts[0].new_zeros(sum(len(part) for part in parts), heads, length + ROOM, width)
    row = 0
    for part in parts:
        whole[row : row + len(part), :, length - part.shape[-2] : length] = part
        row += len(part)
    return whole


def _appended(block: Tensor, held: Tensor, new: Tensor) -> Tensor:
    """Write `new` behind `held`, which begins `block` unless rows were taken out of it; return the block."""
    have, end = held.shape[-2], held.shape[-2] + new.shape[-2]
    if block.data_ptr() != held.data_ptr() or len(block) != len(held) or end > block.shape[-2]:
        block = held.new_empty(*held.shape[:2], end + ROOM, held.shape[-1])
        block[..., :have, :] = held
    block[..., have:end, :] = new
    return block
