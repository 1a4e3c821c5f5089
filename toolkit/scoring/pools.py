"""Which rows are scored together, and how an estimate of them becomes a score with a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq

import numpy as np

from toolkit.scoring.answers import GROUPS, Paired, Question
from toolkit.scoring.bootstrap import Array, Estimate
from toolkit.scoring.scorecard import ALL, Score


def rows_where(paired: Paired, wanted: Callable[[Question], bool]) -> list[int]:
    """Return the rows of the questions that are wanted."""
    return [row for row, question in enumerate(paired.questions) if wanted(question)]


def pools(questions: Seq[Question]) -> Iterator[tuple[str, str, list[int]]]:
    """Yield (group, task, rows) for every group as a whole and then for each of its tasks."""
    for group in GROUPS:
        rows = [row for row, question in enumerate(questions) if question.group == group]
        if not rows:
            continue
        yield group, ALL, rows
        for task in sorted({questions[row].task for row in rows}):
            yield group, task, [row for row in rows if questions[row].task == task]


def ids_of(questions: Seq[Question], rows: Seq[int]) -> tuple[str, ...]:
    """Return the utterances of some rows."""
    return tuple(questions[row].id for row in rows)


def as_columns(hits: Array) -> Array:
    """Put what is counted (N,) beside ones, for `metrics.share`: (N, 2)."""
    return np.stack([hits, np.ones(len(hits))], axis=1)


def named(
    metric: str,
    system: str,
    group: str,
    task: str,
    found: Estimate,
    details: dict[str, float],
    unmeasurable: str = "",
    *,
    unit: str = "%",
    wording: str = "",
) -> Score:
    """Name an estimate; `unmeasurable` says why, should there be no value."""
    return Score(
        metric, system, group, task, found.value, found.low, found.high, found.n, found.utterances, unit,
        details=details, note=unmeasurable if found.value is None else found.note, wording=wording,
    )  # fmt: skip
