"""What a table is to show, said before it is run, and whether it does: in words that leave no way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from toolkit.scoring.bootstrap import Draws, Resampling
from toolkit.scoring.comparison import Difference, difference, ratio
from toolkit.scoring.figures import Figure

Pair = tuple[Draws, Draws, str]
"""the draws of two rows over the seeds that they are compared on, and what is to be said of these"""
Find = Callable[[str, Figure, str, Figure], Pair | str]
"""row, figure, row, figure -> what is compared, or why it cannot be"""


@dataclass(frozen=True)
class Chain:
    """Systems, the best first, and the figures on which each is better than the next."""

    systems: tuple[str, ...]
    figures: tuple[str, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """All rows that it is about."""
        return self.systems


@dataclass(frozen=True)
class AtLeast:
    """One figure is at least so many times another."""

    row: str
    figure: str
    at_least: float
    other_row: str
    other_figure: str

    @property
    def rows(self) -> tuple[str, ...]:
        """All rows that it is about."""
        return self.row, self.other_row

    @property
    def figures(self) -> tuple[str, ...]:
        """All figures that it is about."""
        return self.figure, self.other_figure


@dataclass(frozen=True)
class Verdict:
    """Whether one claim holds."""

    claim: str
    holds: bool | None
    """None where it cannot be said (yet)"""
    why: str
    value: float | None = None
    """difference, or ratio"""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    intervals_touch: bool | None = None
    """whether the two figures' own intervals have a point in common; None where that is not asked"""


def judge(claim: Chain | AtLeast, find: Find, resampling: Resampling) -> Iterator[Verdict]:
    """Say of each part of a claim whether it holds."""
    if isinstance(claim, AtLeast):
        yield _at_least(claim, find, resampling)
        return
    for name in claim.figures:
        figure = Figure.named(name)
        for better, worse in pairwise(claim.systems):
            yield _better(better, worse, figure, find, resampling)


def _better(better: str, worse: str, figure: Figure, find: Find, resampling: Resampling) -> Verdict:
    text = f"{better} > {worse} on {figure.plain_title}"
    found = find(better, figure, worse, figure)
    if isinstance(found, str):
        return Verdict(text, None, found)
    first, second, seeds = found
    # Positive is in favour of the claim.
    gain = difference(second, first, resampling) if figure.lower_is_better else difference(first, second, resampling)
    if gain.value is None or gain.low is None or gain.high is None:
        return Verdict(text, None, gain.note, gain.value)
    touch = intervals_touch(first, second, resampling)
    holds = gain.low > 0
    apart = "their own intervals touch" if touch else "their own intervals do not touch"
    reason = "" if holds else "; the interval is all below 0" if gain.high < 0 else "; the interval includes 0"
    why = f"better by {points(gain)}{reason}; {apart} ({seeds})"
    return Verdict(text, holds, why, gain.value, gain.low, gain.high, gain.p, touch)


def _at_least(claim: AtLeast, find: Find, resampling: Resampling) -> Verdict:
    figure, other = Figure.named(claim.figure), Figure.named(claim.other_figure)
    text = (
        f"{claim.row} on {figure.plain_title} is at least {claim.at_least:g} times "
        f"{claim.other_row} on {other.plain_title}"
    )
    found = find(claim.row, figure, claim.other_row, other)
    if isinstance(found, str):
        return Verdict(text, None, found)
    times = ratio(found[0], found[1], resampling)
    if times.value is None:
        return Verdict(text, None, times.note)
    interval = f" [{times.low:.3f}, {times.high:.3f}]" if times.low is not None else ""
    holds = times.value >= claim.at_least
    sure = "" if times.low is None or holds == (times.low >= claim.at_least) else ", not by the whole interval"
    return Verdict(
        text, holds, f"{times.value:.3f}{interval} times{sure} ({found[2]})", times.value, times.low, times.high
    )


def intervals_touch(first: Draws, second: Draws, resampling: Resampling) -> bool | None:
    """Say whether the intervals of two figures have a point in common; None where there are not two."""
    a, b = first.estimate(resampling), second.estimate(resampling)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    return a.low <= b.high and b.low <= a.high


def points(found: Difference) -> str:
    """Write a difference: `3.2 [1.0, 5.4], p = 0.004`."""
    if found.value is None:
        return found.note
    if found.low is None or found.high is None or found.p is None:
        return f"{_number(found.value)} ({found.note})"
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}], p = {found.p:.3f}"


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"
