"""Which examples share a step, which rank has them, and in which forward pass: a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import lru_cache

from toolkit.data.budget import Budget, CostOrder, Share, shared
from toolkit.data.costs import Costs
from toolkit.data.rank_rows import rows_of_rank
from toolkit.data.seeding import seeded
from toolkit.errors import DataError

POOL = 20
"""batches whose examples are sorted by length together: longer pools pad less and shuffle less"""


def batch_indices(costs: Seq[float], size: int, step: int, seed: int) -> list[int]:
    """Return the examples of one step.

    Every example comes once an epoch. Within pools of 20 batches examples are sorted by cost, so that batch
    mates are about as long as each other; the batches of an epoch are then shuffled.

    Args:
        costs: of each example: what its row costs the model.
        size: examples a step.
        step: counted from 0 over all epochs.
        seed: of the order.

    Raises:
        DataError: there are no examples.
    """
    epoch, within = place_of(step, len(costs), size)
    return epoch_batches(costs, size, epoch, seed)[within]


def place_of(step: int, count: int, size: int) -> tuple[int, int]:
    """Return the epoch of a step and its place there, of `count` examples by `size`.

    Raises:
        DataError: there are no examples.
    """
    if not count:
        raise DataError("no training examples: was the imitate stage run for these tasks?")
    return divmod(step, count // min(size, count))


def epoch_batches(costs: Seq[float], size: int, epoch: int, seed: int) -> list[list[int]]:
    """Return the examples of every step of one epoch; arguments as for `batch_indices`."""
    size = min(size, len(costs))
    per_epoch = len(costs) // size
    rng = seeded(seed, "order", epoch)
    order = rng.sample(range(len(costs)), len(costs))
    pool = POOL * size
    batches: list[list[int]] = []
    for start in range(0, per_epoch * size, pool):
        chunk = sorted(order[start : min(start + pool, per_epoch * size)], key=lambda i: costs[i])
        batches.extend(chunk[i : i + size] for i in range(0, len(chunk), size))
    rng.shuffle(batches)
    return batches


class StepOrder:
    """What each rank has of each step, in its forward passes.

    Args:
        count: examples.
        costs: of each in an epoch, by which batch mates are chosen.
        size: examples a step over all ranks.
        micro: examples a forward pass; 0 means all.
        seed: of the order.
        budget: what a step, or a forward pass, may cost, in the place of `size` or `micro`; None goes by rows.
    """

    def __init__(
        self, count: int, costs: Costs, size: int, micro: int, seed: int, budget: Budget | None = None
    ) -> None:
        self.count = count
        self.size = size
        self.micro = micro
        self.budget = budget
        self._costs = costs
        self._by_cost = CostOrder(count, costs, budget.step, seed) if budget and budget.step else None
        # An epoch is shuffled and sorted once, not again at each of its steps.
        self._by_rows = lru_cache(maxsize=1)(lambda epoch: epoch_batches(self.costs(epoch), size, epoch, seed))
        self._shared = lru_cache(maxsize=1)(self._share_out)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[Share]:
        """Return the forward passes of one rank in one step."""
        if self.budget:
            return self._shared(step, world)[rank]
        mine = rows_of_rank(self.rows(step), self.costs(self.epoch_of(step)), rank, world)
        micro = self.micro or max(len(mine), 1)
        return [Share(mine[start : start + micro]) for start in range(0, len(mine), micro)]

    def _share_out(self, step: int, world: int) -> list[list[Share]]:
        assert self.budget is not None
        return shared(self.costs(self.epoch_of(step)), self.rows(step), world, self.budget.forward)

    def costs(self, epoch: int) -> Seq[int]:
        """Return what each example costs in an epoch."""
        return self._by_cost.costs_in(epoch) if self._by_cost else self._costs(epoch, self.steps_of(epoch).start)

    def rows(self, step: int) -> list[int]:
        """Return the examples of a step, of all ranks."""
        if self._by_cost:
            return self._by_cost[step]
        epoch, within = place_of(step, self.count, self.size)
        return self._by_rows(epoch)[within]

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step."""
        return self._by_cost.epoch_of(step) if self._by_cost else place_of(step, self.count, self.size)[0]

    def steps_of(self, epoch: int) -> range:
        """Return the steps of an epoch."""
        if self._by_cost:
            return self._by_cost.steps_of(epoch)
        count = self.count // min(self.size, self.count)
        return range(epoch * count, (epoch + 1) * count)


def turns(steps: tuple[int, int], worker: int = 0, workers: int = 1) -> range:
    """Return which of the steps (first, last + 1) one worker makes: a loader takes one from each in turn."""
    return range(steps[0] + worker, steps[1], workers)
