"""Prompt generalisation: how a score depends on the words of the prompt. Mean, spread and worst over wordings.

A wording is scored by itself, like a task of its own; where it cannot be measured it is left out, and counted. Over
several tasks the mean is that of the tasks' means and the spread that of their spreads, so that tasks may have
different numbers of wordings and differ in difficulty; the worst is the worst of all.

Letters: W wordings, K columns that a score is made of; the rest as in `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.scoring.answers import Question
from toolkit.scoring.bootstrap import Array, Resampling, Statistic, estimate
from toolkit.scoring.pools import ids_of, named
from toolkit.scoring.scorecard import ALL, Score

DEFINITION = (
    "A task's score under each of its wordings by itself. Mean: over the wordings. Spread: their standard deviation "
    "(n - 1), in points. Worst: the one under which the model does worst, named beside it. Over several tasks: the "
    "mean of the tasks' means and of their spreads, and the worst of all wordings. Kept: the mean under held-out "
    "wordings in percent of that under seen ones. A wording under which the text LLM answers nearly alike whatever "
    "it is told (agreement with b above 95) cannot be measured: it is left out, and counted. A resample that lacks a "
    "wording leaves it out, and one that lacks a task leaves no interval. Few utterances make spread larger and "
    "worst lower by chance alone, most of all in resamples, so that a value may lie outside its interval: compare "
    "systems that answered the same, not a system with zero."
)
NO_SPREAD = "no task has two wordings that can be measured"
NOT_KEPT = "nothing is above zero under seen wordings, or nothing was asked under held-out ones"


@dataclass(frozen=True)
class Measure:
    """A score that is worked out for each wording."""

    name: str
    statistic: Statistic
    """sums (..., K) -> scores (...)"""
    higher_is_better: bool
    unmeasurable: str
    """why it has no value, where it has none"""
    least: float = 0.0
    """a wording can be measured if the last of the K columns, which scores are divided by, has this mean or more"""


@dataclass(frozen=True)
class _Wordings:
    """Rows of some tasks with a column for each wording and part of its score."""

    keys: tuple[tuple[str, str, str], ...]
    """group, task and prompt of each of the W"""
    columns: Array
    """(N, W * K)"""
    measure: Measure
    measured: NDArray[np.bool_]
    """(W,) which of them can be measured, by all rows; a resample has no say in it"""

    @classmethod
    def of(cls, questions: Seq[Question], columns: Array, measure: Measure) -> _Wordings:
        """Spread the columns (N, K) of the rows over their wordings."""
        keys = sorted({(question.group, question.task, question.prompt) for question in questions})
        place = {key: number for number, key in enumerate(keys)}
        wide = np.zeros((len(questions), len(keys), columns.shape[1]))
        for row, question in enumerate(questions):
            wide[row, place[question.group, question.task, question.prompt]] = columns[row]
        totals, counts = wide.sum(axis=0), np.array([len(rows) for rows in _rows_by(questions, keys)])
        with np.errstate(divide="ignore", invalid="ignore"):
            measured = ~np.isnan(measure.statistic(totals)) & (totals[:, -1] / counts >= measure.least)
        return cls(tuple(keys), wide.reshape(len(questions), len(keys) * columns.shape[1]), measure, measured)

    def scores(self, sums: Array) -> Array:
        """Return the score under each wording, NaN where it cannot be measured: (..., W * K) -> (..., W)."""
        parts = sums.reshape(*sums.shape[:-1], len(self.keys), -1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may lack a wording's utterances
            return np.where(self.measured, self.measure.statistic(parts), np.nan)

    def mean(self, sums: Array, group: str = "") -> Array:
        """Average the tasks' means, of one group or of all: (..., W * K) -> (...)."""
        return self._over_tasks(sums, _mean, group)

    def spread(self, sums: Array) -> Array:
        """Average the tasks' spreads: (..., W * K) -> (...)."""
        return self._over_tasks(sums, _spread)

    def worst(self, sums: Array) -> Array:
        """Return the worst wording's score: (..., W * K) -> (...)."""
        values = self.scores(sums)
        # Wordings without a score come last; where there are no others the worst is NaN again.
        sign = 1 if self.measure.higher_is_better else -1
        lowest = np.where(np.isnan(values), np.inf, sign * values).min(axis=-1)
        return np.where(np.isinf(lowest), np.nan, sign * lowest)

    def kept(self, sums: Array) -> Array:
        """Return the mean of the held-out wordings in percent of that of the seen ones: (..., W * K) -> (...)."""
        seen, held_out = self.mean(sums, "seen_wording"), self.mean(sums, "held_out_wording")
        return 100 * np.divide(held_out, seen, out=np.full_like(seen, np.nan), where=seen > 0)

    def _over_tasks(self, sums: Array, inner: Callable[[Array], Array], group: str = "") -> Array:
        """Average over the tasks that all rows can measure; NaN in a resample that cannot measure one of them."""
        values, known = self.scores(sums), self.scores(self.columns.sum(axis=0))
        tasks = sorted({(own, task) for own, task, _ in self.keys if group in ("", own)})
        columns = [[key[:2] == task for key in self.keys] for task in tasks]
        inside = [inner(values[..., own]) for own in columns if not np.isnan(inner(known[own]))]
        mean: Array = np.mean(inside, axis=0) if inside else np.full(values.shape[:-1], np.nan)
        return mean


def over_wordings(
    questions: Seq[Question],
    columns: Array,
    measure: Measure,
    parts: Seq[tuple[str, str, Seq[int]]],
    system: str,
    resampling: Resampling,
) -> Iterator[Score]:
    """Yield `<measure>_mean`, `_spread` and `_worst` of a system.

    Args:
        questions: N.
        columns: (N, K) what the measure sums.
        measure: what is worked out for each wording.
        parts: (group, name, rows) of what is looked at together: a task, a family, or all.
        system: whose answers they are.
        resampling: how the intervals are drawn.
    """
    for group, name, rows in parts:
        asked = [questions[row] for row in rows]
        wordings, ids = _Wordings.of(asked, columns[rows], measure), ids_of(questions, rows)
        known = wordings.scores(wordings.columns.sum(axis=0))
        details = {"wordings": float(len(known)), "left_out": float(np.isnan(known).sum())}
        for what, statistic in (("mean", wordings.mean), ("spread", wordings.spread), ("worst", wordings.worst)):
            found = estimate(ids, wordings.columns, statistic, resampling)
            worst = what == "worst" and found.value is not None
            prompt = wordings.keys[_first_worst(known, measure)][2] if worst else ""
            note = NO_SPREAD if what == "spread" else measure.unmeasurable
            yield named(f"{measure.name}_{what}", system, group, name, found, details, note, wording=prompt)


def kept(questions: Seq[Question], columns: Array, measure: Measure, system: str, resampling: Resampling) -> Score:
    """Return `<measure>_kept`: what of the score under seen wordings is left under held-out ones."""
    wordings = _Wordings.of(questions, columns, measure)
    found = estimate([question.id for question in questions], wordings.columns, wordings.kept, resampling)
    return named(f"{measure.name}_kept", system, ALL, ALL, found, {}, NOT_KEPT)


def each_wording(
    questions: Seq[Question], columns: Array, measure: Measure, system: str, resampling: Resampling
) -> Iterator[Score]:
    """Yield `<measure>_wording` for every wording, with its prompt."""
    keys = sorted({(question.group, question.task, question.prompt) for question in questions})
    for (group, task, prompt), rows in zip(keys, _rows_by(questions, keys), strict=True):
        found = estimate(ids_of(questions, rows), columns[rows], measure.statistic, resampling)
        yield named(f"{measure.name}_wording", system, group, task, found, {}, measure.unmeasurable, wording=prompt)


def _rows_by(questions: Seq[Question], keys: Seq[tuple[str, str, str]]) -> list[list[int]]:
    """Return the rows of each wording."""
    rows: dict[tuple[str, str, str], list[int]] = {key: [] for key in keys}
    for row, question in enumerate(questions):
        rows[question.group, question.task, question.prompt].append(row)
    return list(rows.values())


def _first_worst(values: Array, measure: Measure) -> int:
    return int(np.nanargmin(values) if measure.higher_is_better else np.nanargmax(values))


def _mean(values: Array) -> Array:
    """Average (..., W) over what is known: (...), NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    mean: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean


def _spread(values: Array) -> Array:
    """Return the standard deviation (n - 1) of what is known in (..., W): (...), NaN where fewer than two are."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    squares = np.where(known, values - _mean(values)[..., None], 0) ** 2
    total = squares.sum(axis=-1)
    spread: Array = np.sqrt(np.divide(total, count - 1, out=np.full_like(total, np.nan), where=count > 1))
    return spread
