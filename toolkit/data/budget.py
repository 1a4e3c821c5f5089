"""Batches by cost: a step has as many examples as its budget of positions holds, and so has a forward pass.

What an example costs is said by `toolkit.data.costs`. A batch costs what the model runs of it, padding and all: its
rows times the longest of them. Like the order by rows, this one is a function of (seed, step) alone; who shares a step
out, and into how many forward passes, changes nothing of what is in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from toolkit.data.costs import Costs
from toolkit.data.seeding import seeded
from toolkit.errors import DataError

POOL = 40
"""steps whose examples are sorted by cost together: longer pools pad less and shuffle less"""
WORTH = 512
"""positions of padding that a further forward pass must spare to be taken (ours): what a CPU's caches hold at once"""


@dataclass(frozen=True)
class Budget:
    """What steps and forward passes may cost, in positions: embeddings, tokens of the prompt and of the answer."""

    step: int = 0
    """of a step, over all ranks; 0 goes by rows"""
    forward: int = 0
    """of a forward pass; 0 is no limit"""


@dataclass(frozen=True)
class Share:
    """What one rank has of one step in one forward pass."""

    rows: list[int]
    idle: bool = False
    """whether another rank has these rows too and they count there: a step has fewer rows than there are ranks"""


def padded_cost(costs: Seq[int], rows: Seq[int]) -> int:
    """Return what a batch costs: each of its rows is as long as the longest."""
    return len(rows) * max(costs[row] for row in rows)


class CostOrder:
    """The examples of every step: each once an epoch, those of a step about as long as each other.

    An epoch is shuffled, sorted by cost in pools of about 40 steps, cut where a step is full, and its steps shuffled.
    What does not fill the last step of a pool goes to the next pool.

    Args:
        count: examples.
        costs: of each in an epoch, at least 1.
        budget: of a step; an example that costs more is a step by itself.
        seed: of the order.

    Raises:
        DataError: there are no examples.
    """

    def __init__(self, count: int, costs: Costs, budget: int, seed: int) -> None:
        if not count:
            raise DataError("no training examples: was the imitate stage run for these tasks?")
        self.count = count
        self.costs = costs
        self.budget = budget
        self.seed = seed
        self._starts = [0]  # the first step of each epoch known, and of the one after
        self._made: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, step: int) -> list[int]:
        """Return the examples of a step, counted from 0 over all epochs, by cost."""
        epoch = self.epoch_of(step)
        return self.epoch(epoch)[step - self._starts[epoch]]

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step."""
        while self._starts[-1] <= step:
            self.steps_of(len(self._starts) - 1)
        return bisect_right(self._starts, step) - 1

    def steps_of(self, epoch: int) -> range:
        """Return the steps of an epoch; epochs need not have equally many."""
        while len(self._starts) <= epoch + 1:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        return range(self._starts[epoch], self._starts[epoch + 1])

    def epoch(self, number: int) -> list[list[int]]:
        """Return the examples of every step of an epoch."""
        if self._made[0] != number:
            self._made = (number, self._make(number, self.costs_in(number)))
        return self._made[1]

    def costs_in(self, epoch: int) -> Seq[int]:
        """Return what each example costs in an epoch."""
        return self.costs(epoch, self.steps_of(epoch - 1).stop if epoch else 0)

    def _make(self, number: int, costs: Seq[int]) -> list[list[int]]:
        count, rng = self.count, seeded(self.seed, "order by cost", number)
        size = max(1, POOL * self.budget * count // sum(costs))
        order = rng.sample(range(count), count)
        steps: list[list[int]] = []
        left: list[int] = []
        for start in range(0, count, size):
            pool = sorted([*left, *order[start : start + size]], key=lambda i: costs[i])
            *full, left = filled(costs, pool, self.budget)
            # Nothing comes that could fill the last step of all, so the last pool is cut into steps that are alike.
            last = start + size >= count
            steps += evened(costs, pool, len(full) + 1, self.budget) if last else full
        rng.shuffle(steps)
        return steps


def filled(costs: Seq[int], rows: Seq[int], most: int) -> list[list[int]]:
    """Cut rows that are sorted by cost into batches: each is as full as it can be, or one row."""
    batches: list[list[int]] = []
    for row in rows:
        if batches and (len(batches[-1]) + 1) * costs[row] <= most:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def shared(costs: Seq[int], rows: Seq[int], world: int, most: int = 0) -> list[list[Share]]:
    """Share the rows of a step out to ranks, and what each has to as many forward passes as are cheapest.

    That is as few as the budget allows, and more as long as each spares enough padding. Ranks meet in every backward
    pass, so all have equally many: one without rows runs a row of another's in vain.

    Args:
        costs: of each example.
        rows: of the step.
        world: ranks.
        most: what a forward pass may cost, if it has more than one row; 0 is no limit.

    Returns:
        the forward passes of each rank.
    """
    ordered = sorted(rows, key=lambda row: costs[row])
    passes = -(-len(filled(costs, ordered, most)) // world) if most else 1
    batches = evened(costs, ordered, passes * world, most)
    while True:
        finer = evened(costs, ordered, (passes + 1) * world, most)
        if sum(padded_cost(costs, b) for b in batches) - sum(padded_cost(costs, b) for b in finer) < WORTH * world:
            break
        passes, batches = passes + 1, finer
    groups = [Share(group) for group in batches]
    groups += [Share(ordered[:1], idle=True)] * (passes * world - len(groups))
    groups.sort(key=lambda group: (group.idle, -padded_cost(costs, group.rows)))
    # There and back, so that who has the dearest of one pass has the cheapest of the next.
    turns = [groups[i : i + world][:: -1 if i // world % 2 else 1] for i in range(0, len(groups), world)]
    return [[turn[rank] for turn in turns] for rank in range(world)]


def evened(costs: Seq[int], ordered: Seq[int], parts: int, most: int = 0) -> list[list[int]]:
    """Cut rows that are sorted by cost into as many batches (or as there are rows), the dearest as cheap as can be.

    No batch of more than one row costs more than `most`, if as many batches can be made so; 0 is no limit.
    """
    high = min(padded_cost(costs, ordered), most or padded_cost(costs, ordered))
    low = max((costs[row] for row in ordered if costs[row] <= high), default=high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(filled(costs, ordered, middle)) <= parts else (middle + 1, high)
    batches = filled(costs, ordered, low)
    while len(batches) < min(parts, len(ordered)):
        dearest = max((b for b in batches if len(b) > 1), key=lambda batch: padded_cost(costs, batch))
        half, place = len(dearest) // 2, batches.index(dearest)
        batches[place : place + 1] = [dearest[:half], dearest[half:]]
    return batches
