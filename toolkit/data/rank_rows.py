"""Which rows of a step each rank has: equally many, that cost about the same, for all wait for the slowest."""

from __future__ import annotations

from collections.abc import Sequence as Seq


def rows_of_rank(chosen: Seq[int], costs: Seq[float], rank: int, world: int) -> list[int]:
    """Return one rank's rows of a step, in the order they have there.

    The dearest is given first, each to the rank that has the cheapest rows so far and is not full. It is a function of
    the step alone, so every rank works it out for itself; between them they have every row once.

    Args:
        chosen: the examples of the step.
        costs: of each example there is.
        rank: whose rows.
        world: ranks.
    """
    fullest = -(-len(chosen) // world)
    held: list[list[int]] = [[] for _ in range(world)]
    spent = [0.0] * world
    for place in sorted(range(len(chosen)), key=lambda place: -costs[chosen[place]]):
        _, cheapest = min((spent[r], r) for r in range(world) if len(held[r]) < fullest)
        held[cheapest].append(place)
        spent[cheapest] += costs[chosen[place]]
    return [chosen[place] for place in sorted(held[rank])]
