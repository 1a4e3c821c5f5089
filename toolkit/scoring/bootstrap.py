"""Intervals by resampling utterances: all answers about an utterance are drawn, or left out, together.

Answers about one utterance are not independent (they share its recognition errors), so rows must not be
resampled one by one. Every score here is a function of sums over rows, so the sums are taken per utterance
once and a resample is a row of weights: one matrix product gives all resamples.
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentile intervals.)

A system that was trained with several seeds has a score for each; its figure is their mean. A resample then draws
utterances, the same for every seed, and seeds as well. Two systems are compared on the same draws of both.

Letters: N rows, I utterances, K summed columns, R resamples, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Sums (..., K) -> scores (...), NaN where the score is not defined."""
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    resamples: int = 1000
    seed: int = 1
    """of the drawing alone: the same utterances are drawn for every system and every experiment"""


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval."""

    value: float | None
    """None where it cannot be measured"""
    low: float | None
    high: float | None
    n: int
    """rows"""
    utterances: int
    note: str = ""
    """why there is no interval, where there is a value without one"""


@dataclass(frozen=True)
class Draws:
    """A score of one system, in all of its data and in every resample of the utterances."""

    values: Array
    """(S,) by seed; NaN where it cannot be measured"""
    resampled: Array
    """(S, R); without columns where `note` says why"""
    n: int
    """rows"""
    utterances: tuple[str, ...]
    """sorted: two scores may be compared if they are of the same"""
    note: str = ""

    @property
    def value(self) -> float | None:
        """The mean over the seeds, None where it cannot be measured."""
        mean = float(self.values.mean())
        return None if np.isnan(mean) else mean

    def means(self, resampling: Resampling) -> Array:
        """Return the mean over the seeds in every resample, which draws seeds too: (R,)."""
        seeds, resamples = self.resampled.shape
        # One stream whatever the score: two systems of the same seeds are compared on the same draws of them.
        picks = np.random.default_rng((resampling.seed, seeds)).integers(seeds, size=(seeds, resamples))
        means: Array = np.take_along_axis(self.resampled, picks, axis=0).mean(axis=0)
        return means

    def estimate(self, resampling: Resampling) -> Estimate:
        """Return the mean over the seeds with its interval."""
        counts = self.n, len(self.utterances)
        if self.value is None or not self.resampled.shape[1]:
            return Estimate(self.value, None, None, *counts, note=self.note)
        low, high = np.percentile(self.means(resampling), PERCENTILES)
        return Estimate(self.value, float(low), float(high), *counts)


def estimate(ids: Seq[str], columns: Array, statistic: Statistic, resampling: Resampling) -> Estimate:
    """Compute a score of summed columns and its interval over utterances.

    Args:
        ids: (N,) the utterance of each row.
        columns: (N, K) what is summed.
        statistic: the score as a function of the sums.
        resampling: number of resamples and seed.
    """
    return draw(ids, [columns], statistic, resampling).estimate(resampling)


def draw(ids: Seq[str], seeds: Seq[Array], statistic: Statistic, resampling: Resampling) -> Draws:
    """Compute a score of summed columns and what it is in resamples of the utterances.

    Nothing is drawn where there is no value, with fewer than two utterances (nothing to draw from), or when some
    resample has no score: leaving such resamples out would make the interval look too sure.

    Args:
        ids: (N,) the utterance of each row.
        seeds: (N, K) what is summed, for each seed.
        statistic: the score as a function of the sums.
        resampling: number of resamples and seed.
    """
    names, rows = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
    utterances, nothing = tuple(map(str, names)), np.zeros((len(seeds), 0))
    sums = [_sums(rows, len(names), columns) for columns in seeds]
    values = np.array([float(statistic(each.sum(axis=0))) if utterances else np.nan for each in sums])
    if np.isnan(values).any():
        return Draws(values, nothing, len(ids), utterances)
    if resampling.resamples < 1:
        return Draws(values, nothing, len(ids), utterances, "no interval was asked for")
    if len(utterances) < 2:
        return Draws(values, nothing, len(ids), utterances, "no interval from one utterance")
    weights = _weights(len(names), resampling)
    # Column by column, since a joint product may round equal columns differently: 100 must stay 100.
    drawn = np.stack(
        [statistic(np.stack([weights @ np.ascontiguousarray(column) for column in each.T], axis=1)) for each in sums]
    )
    if np.isnan(drawn).any():
        return Draws(values, nothing, len(ids), utterances, "no interval: some resamples cannot be measured")
    return Draws(values, drawn, len(ids), utterances)


def _sums(rows: NDArray[np.intp], utterances: int, columns: Array) -> Array:
    """Sum columns (N, K) by utterance: (I, K)."""
    sums = np.zeros((utterances, columns.shape[1]))
    np.add.at(sums, rows, columns)
    return sums


@lru_cache(maxsize=8)
def _weights(utterances: int, resampling: Resampling) -> Array:
    """How often each utterance is drawn in each resample: (R, I)."""
    rng = np.random.default_rng(resampling.seed)
    shares = np.full(utterances, 1 / utterances)
    return rng.multinomial(utterances, shares, size=resampling.resamples).astype(np.float64)
