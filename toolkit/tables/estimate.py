"""How long a cell will take, from those like it that are done."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from toolkit.sweep.cell import DATA
from toolkit.sweep.record import read_cost, read_times
from toolkit.tables.cells import TableCell


def estimate_seconds(cell: TableCell, cells: Iterable[TableCell]) -> tuple[float, list[str]]:
    """Return the seconds that a cell will still take, and the stages of which nobody can tell yet.

    Training is counted in steps of the cells of its row, else of all rows that are trained; decoding likewise. What
    makes the data is not foreseen.
    """
    others = [other for other in cells if other.name != cell.name and other.trained == cell.trained]
    same = [other for other in others if other.row == cell.row]
    kind = [other for other in others if (other.job.after is None) == (cell.job.after is None)]
    done = read_times(cell.folder)
    total, unknown = 0.0, []
    for stage in (stage for stage in cell.job.stages if stage not in DATA and stage not in done):
        if stage == "train":
            seconds = _training(cell, [same, kind]) if cell.trained else 0.0
        else:
            seconds = _mean_time(stage, [same, kind, others])
        total += seconds or 0.0
        unknown += [stage] if seconds is None else []
    return total, unknown


def _training(cell: TableCell, groups: list[list[TableCell]]) -> float | None:
    limit = 60 * cell.job.minutes
    for group in groups:
        times = [cost.step_seconds for cost in (read_cost(each.folder) for each in group) if cost and cost.step_seconds]
        if times:
            seconds = mean(times) * cell.job.steps
            return min(seconds, limit) if limit else seconds
    return limit or None


def _mean_time(stage: str, groups: list[list[TableCell]]) -> float | None:
    for group in groups:
        times = [times[stage] for times in (read_times(each.folder) for each in group) if stage in times]
        if times:
            return mean(times)
    return None
