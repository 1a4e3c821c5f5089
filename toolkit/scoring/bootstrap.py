"""Intervals by resampling utterances: all answers about an utterance are drawn, or left out, together.

Answers about one utterance are not independent (they share its recognition errors), so rows must not be
resampled one by one. Every score here is a function of sums over rows, so the sums are taken per utterance
once and a resample is a row of weights: one matrix product gives all resamples.
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentile intervals.)

Letters: N rows, I utterances, K summed columns, R resamples.
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


def estimate(ids: Seq[str], columns: Array, statistic: Statistic, resampling: Resampling) -> Estimate:
    """Compute a score of summed columns and its interval over utterances.

    There is no interval where there is no value, with fewer than two utterances (nothing to draw from), or
    when some resample has no score: leaving such resamples out would make the interval look too sure.

    Args:
        ids: (N,) the utterance of each row.
        columns: (N, K) what is summed.
        statistic: the score as a function of the sums.
        resampling: number of resamples and seed.
    """
    names, rows = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, rows, columns)
    counts = len(ids), len(names)
    value = float(statistic(sums.sum(axis=0))) if len(names) else np.nan
    if np.isnan(value):
        return Estimate(None, None, None, *counts)
    if resampling.resamples < 1:
        return Estimate(value, None, None, *counts, note="no interval was asked for")
    if len(names) < 2:
        return Estimate(value, None, None, *counts, note="no interval from one utterance")
    weights = _weights(len(names), resampling)
    # Column by column, since a joint product may round equal columns differently: 100 must stay 100.
    drawn = statistic(np.stack([weights @ np.ascontiguousarray(column) for column in sums.T], axis=1))
    if np.isnan(drawn).any():
        return Estimate(value, None, None, *counts, note="no interval: some resamples cannot be measured")
    low, high = np.percentile(drawn, PERCENTILES)
    return Estimate(value, float(low), float(high), *counts)


@lru_cache(maxsize=8)
def _weights(utterances: int, resampling: Resampling) -> Array:
    """How often each utterance is drawn in each resample: (R, I)."""
    rng = np.random.default_rng(resampling.seed)
    shares = np.full(utterances, 1 / utterances)
    return rng.multinomial(utterances, shares, size=resampling.resamples).astype(np.float64)
