"""Rows that are being continued: their keys and values, with room to grow in, brought together from several runs.

Transformers' cache copies all that it holds for every new token. A layer here holds a block that is longer than what is
in it, so that a step writes its own keys and values alone, and a new row is written in the place of one that has ended.
Only plain attention over everything before is kept so; the caches of other models (windows, states) stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
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

    def place(self, rows: Tensor, keys: Tensor, values: Tensor) -> None:
        """Write rows that are no longer than what is held, (n, heads, M, width), over others, to end where all end."""
        start = self.keys.shape[-2] - keys.shape[-2]
        self.keys[rows, :, start:], self.values[rows, :, start:] = keys, values

    def shift(self, steps: int) -> None:
        """Put so many steps of nothing before what is held; or take away the first ones, where negative."""
        if steps < 0:
            self.keys, self.values = self.keys[..., -steps:, :], self.values[..., -steps:, :]
            return
        length = self.keys.shape[-2] + steps
        self._blocks = _ending([self.keys], length), _ending([self.values], length)
        self.keys, self.values = (block[..., :length, :] for block in self._blocks)


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


@dataclass
class Begun:
    """Rows that have been run and may be continued: B of them, their caches N steps long."""

    last: Tensor
    """(B, D) the last hidden state of each"""
    cache: Any
    """their keys and values"""
    mask: Tensor
    """(B, N) 0 where the cache holds padding"""
    position: Tensor
    """(B, 1) of the last embedding of each"""
    rows: list[int]
    """which of the rows given each of them is"""

    @classmethod
    def of(cls, state: Any, mask: Tensor, positions: Tensor, rows: list[int]) -> Begun:
        """Take what a run padded on the left returns."""
        return cls(state.last_hidden_state[:, -1], roomy(state.past_key_values), mask, positions[:, -1:], rows)

    def keep(self, which: Seq[int]) -> None:
        """Go on with these rows alone."""
        index = torch.tensor(which, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.last, self.mask, self.position = self.last[index], self.mask[index], self.position[index]
        self.rows = [self.rows[i] for i in which]

    def place(self, which: Seq[int], new: Begun) -> None:
        """Go on with new rows in the places of ended ones. Both caches are roomy."""
        longer = new.mask.shape[1] - self.mask.shape[1]
        if longer > 0:
            self._shift(longer)
        index = torch.tensor(which, device=self.mask.device)
        self.last, self.position = self.last.clone(), self.position.clone()
        self.last[index], self.position[index] = new.last, new.position
        self.mask[index] = functional.pad(new.mask, (self.mask.shape[1] - new.mask.shape[1], 0))
        for layer, other in zip(self.cache.layers, new.cache.layers, strict=True):
            layer.place(index, other.keys, other.values)
        for place, row in zip(which, new.rows, strict=True):
            self.rows[place] = row
        # Steps that only rows of before had: there is nothing left to see in them.
        unseen = int(self.mask.any(0).int().argmax())
        if unseen >= ROOM:
            self._shift(-unseen)

    def _shift(self, steps: int) -> None:
        self.mask = functional.pad(self.mask, (steps, 0))
        for layer in self.cache.layers:
            layer.shift(steps)

    @classmethod
    def joined(cls, parts: Seq[Begun]) -> Begun:
        """Bring rows of several runs together; the first is used up."""
        if len(parts) == 1:
            return parts[0]
        longest = max(part.mask.shape[1] for part in parts)
        masks = [functional.pad(part.mask, (longest - part.mask.shape[1], 0)) for part in parts]
        return cls(
            torch.cat([part.last for part in parts]),
            joined([part.cache for part in parts]),
            torch.cat(masks),
            torch.cat([part.position for part in parts]),
            [row for part in parts for row in part.rows],
        )


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
