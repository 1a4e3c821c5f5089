"""Two systems that answered the same questions: their paired difference, its interval and a two-sided test.

A resample draws utterances (and seeds, where the systems were trained with the same ones) and takes both scores from
that one draw: what makes an utterance hard is hard for both, and drops out of the difference.
(Koehn, Statistical significance tests for machine translation evaluation, EMNLP 2004; for word error rates Bisani and
Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004.)

Letters: R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.errors import DataError
from toolkit.scoring.answers import Paired, check_same
from toolkit.scoring.bootstrap import PERCENTILES, Array, Draws, Resampling
from toolkit.scoring.scorecard import DECIMALS

NOT_MEASURED = "one of the two cannot be measured"
NOTHING_OF = "the other figure is not above 0"


@dataclass(frozen=True)
class Difference:
    """How far one score is from another."""

    value: float | None
    """None where it cannot be measured"""
    low: float | None
    high: float | None
    p: float | None
    """two-sided: how often a difference as large would be found if there were none"""
    n: int
    """rows of the first"""
    utterances: int
    note: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_test(resampling: Resampling) -> str:
    """Say what is tested and how, to be printed with every comparison."""
    return (
        f"Paired bootstrap (Koehn 2004; Bisani and Ney 2004), {resampling.resamples} resamples "
        f"(seed {resampling.seed}) of utterances with all their answers. Both systems are scored anew on each draw, "
        "and so are their seeds, drawn alike where both have the same; the 2.5 and 97.5 percentiles of the difference "
        "are its 95 % interval. p is two-sided: twice the smaller share of resamples in which the difference is at "
        "most, or at least, 0, one counted on top in both. Nothing is corrected for the number of comparisons."
    )


def difference(first: Draws, second: Draws, resampling: Resampling) -> Difference:
    """Return first - second.

    Raises:
        DataError: they are not of the same utterances.
    """
    _check_utterances(first, second)
    counts = first.n, len(first.utterances)
    if first.value is None or second.value is None:
        return Difference(None, None, None, None, *counts, note=NOT_MEASURED)
    value = first.value - second.value
    if note := first.note or second.note:
        return Difference(_rounded(value), None, None, None, *counts, note=note)
    drawn = first.means(resampling) - second.means(resampling)
    low, high = np.percentile(drawn, PERCENTILES)
    return Difference(_rounded(value), _rounded(low), _rounded(high), _two_sided(drawn), *counts)


def ratio(first: Draws, second: Draws, resampling: Resampling) -> Difference:
    """Return first / second in the place of a difference, without a test: nobody says that it is 0.

    Raises:
        DataError: they are not of the same utterances.
    """
    _check_utterances(first, second)
    counts = first.n, len(first.utterances)
    if first.value is None or second.value is None:
        return Difference(None, None, None, None, *counts, note=NOT_MEASURED)
    if second.value <= 0:
        return Difference(None, None, None, None, *counts, note=NOTHING_OF)
    value = first.value / second.value
    if note := first.note or second.note:
        return Difference(_rounded(value), None, None, None, *counts, note=note)
    over, under = first.means(resampling), second.means(resampling)
    if (under <= 0).any():
        return Difference(
            _rounded(value), None, None, None, *counts, note=f"no interval: in some resamples {NOTHING_OF}"
        )
    low, high = np.percentile(over / under, PERCENTILES)
    return Difference(_rounded(value), _rounded(low), _rounded(high), None, *counts)


def check_questions(name: str, first: Paired, other: str, second: Paired) -> None:
    """Hold two systems' questions together, by (id, task, prompt).

    Raises:
        DataError: one answers what the other does not, or they disagree about what is right.
    """
    tables = [{q.key: (q, a) for q, a in zip(p.questions, p.answers["speech"], strict=True)} for p in (first, second)]
    check_same(name, tables[0], other, tables[1])


def _check_utterances(first: Draws, second: Draws) -> None:
    if first.utterances != second.utterances:
        raise DataError(
            f"{len(first.utterances)} and {len(second.utterances)} utterances, not the same: nothing can be paired"
        )


def _two_sided(drawn: Array) -> float:
    """Return p from differences in resamples (R,)."""
    rare = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return _rounded(min(1.0, 2 * (rare + 1) / (len(drawn) + 1)))


def _rounded(value: float) -> float:
    """Round so that another machine's last bits do not show."""
    return round(float(value), DECIMALS) + 0.0
