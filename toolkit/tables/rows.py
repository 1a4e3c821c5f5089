"""The figures of rows: a mean over seeds with one interval, and two rows side by side on the seeds that they share."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace

from toolkit.errors import DataError
from toolkit.scoring.bootstrap import Draws, Resampling, draw
from toolkit.scoring.comparison import check_questions
from toolkit.scoring.compute import Measured
from toolkit.scoring.figures import MODEL, Answered, Figure
from toolkit.scoring.layout import Cell
from toolkit.tables.claims import Pair

DECIMALS = 1


def interval_definition(resampling: Resampling) -> str:
    """Say what an interval covers, to be printed with every table."""
    return (
        f"95 %, percentile bootstrap, {resampling.resamples} resamples (seed {resampling.seed}). A row of several "
        "seeds has the mean of their scores. Each resample draws utterances with all their answers, the same for "
        "every seed and every row, scores each seed anew, and takes the mean over seeds drawn with replacement from "
        "those of the row: the interval covers the choice of utterances and of seeds, the latter as well as so few "
        "seeds can tell. Behind it stand the lowest and the highest seed. A row of one seed has an interval for the "
        "choice of utterances alone. Intervals shrink to a point for a rate of 0 or 100."
    )


class Rows:
    """Answers by row and seed, and the figures made of them.

    Args:
        answered: row -> seed -> its answers.
        resampling: how intervals are drawn.
        untrained: rows that are what they are without any seed, as the cascade.

    Raises:
        DataError: two cells were asked different questions.
    """

    def __init__(
        self, answered: Mapping[str, Mapping[int, Answered]], resampling: Resampling, untrained: Seq[str] = ()
    ) -> None:
        self.answered = {row: dict(sorted(seeds.items())) for row, seeds in answered.items() if seeds}
        self.resampling = resampling
        self.untrained = frozenset(untrained)
        self._draws: dict[tuple[str, Figure, tuple[int, ...]], Draws] = {}
        marks = {f"{row}, seed {seed}": each.paired.fingerprint for row, seed, each in self._all()}
        for name, mark in marks.items():
            if mark != next(iter(marks.values())):
                raise DataError(f"'{next(iter(marks))}' and '{name}' answered different questions")
        for row, cells in self.answered.items():
            (seed, first), *others = cells.items()
            for other, each in others:
                check_questions(f"{row}, seed {seed}", first.paired, f"{row}, seed {other}", each.paired)

    def seeds(self, row: str) -> tuple[int, ...]:
        """Return the seeds of a row that have answers."""
        return tuple(self.answered.get(row, {}))

    def figures(self) -> list[Figure]:
        """Return all figures of the first cell, of all systems."""
        return list(next((each.measured for _, _, each in self._all()), {}))

    def draws(self, row: str, figure: Figure, seeds: Seq[int] | None = None) -> Draws | None:
        """Return a figure of a row over its seeds (or some) and in resamples; None where it was not counted."""
        wanted = self.seeds(row) if seeds is None else tuple(seeds)
        key = row, figure, wanted
        if key not in self._draws:
            found = self._measured(row, figure, wanted)
            if not found:
                return None
            # Questions and references are the same for all seeds, and so are the rows that are counted.
            columns = [each.columns for each in found]
            self._draws[key] = draw(found[0].ids, columns, found[0].statistic, self.resampling)
        return self._draws[key]

    def cell(self, row: str, figure: Figure) -> Cell:
        """Return a figure of a row as it is shown."""
        found = self.draws(row, figure)
        if found is None:
            return Cell(None)
        about = self._measured(row, figure, self.seeds(row))
        shown = found.estimate(self.resampling)
        unparsed, left_out = (sum(int(m.details.get(name, 0)) for m in about) for name in ("unparsed", "left_out"))
        extra = [f"{_number(min(found.values))} to {_number(max(found.values))}"] if len(found.values) > 1 else []
        extra += [f"{unparsed} unparsed"] if unparsed else []
        return Cell(
            _rounded(shown.value), _rounded(shown.low), _rounded(shown.high),
            shown.n, shown.utterances, left_out // len(about),
            extra="; ".join(extra) if shown.value is not None else "",
            note=about[0].unmeasurable if shown.value is None else shown.note,
        )  # fmt: skip

    def pair(self, row: str, figure: Figure, other: str, other_figure: Figure) -> Pair:
        """Return two figures over the seeds that they are compared on.

        These are the seeds that both rows have, for such began from one warm start; a row that is not trained is the
        same for all seeds of the other.

        Raises:
            DataError: they cannot be compared.
        """
        for name in (row, other):
            if not self.seeds(name):
                raise DataError(f"{name} has no answers")
        mine, theirs = self.seeds(row), self.seeds(other)
        if not self.untrained & {row, other}:
            mine = theirs = tuple(seed for seed in mine if seed in theirs)
        if not mine:
            raise DataError(f"{row} and {other} have no seed in common")
        check_questions(row, self.answered[row][mine[0]].paired, other, self.answered[other][theirs[0]].paired)
        first, second = self.draws(row, figure, mine), self.draws(other, other_figure, theirs)
        for name, found, what in ((row, first, figure), (other, second, other_figure)):
            if found is None:
                raise DataError(f"{name} has no figure '{what.plain_title}'")
        assert first is not None
        assert second is not None
        named = mine if len(mine) >= len(theirs) else theirs
        return first, second, f"seed{'s' if len(named) > 1 else ''} {', '.join(map(str, named))}"

    def toplines(self) -> dict[str, str]:
        """Return the rows that stand for the text LLM's own answers: title -> a row; one, if all have the same."""
        found: dict[tuple[str, ...], list[str]] = {}
        for row, _, each in self._all():
            said = tuple(answer.hypothesis for answer in each.paired.answers.get("text", ()))
            if said and row not in found.setdefault(said, []):
                found[said].append(row)
        title = "topline (text LLM)"
        if len(found) > 1:
            return {f"{title} ({', '.join(rows)})": rows[0] for rows in found.values()}
        return {title: next(iter(found.values()))[0]} if found else {}

    def topline_cell(self, row: str, figure: Figure) -> Cell:
        """Return a figure of the text LLM itself, in the place of the model's."""
        if figure.system != MODEL:
            return Cell(None)
        alone = Rows({row: {0: next(iter(self.answered[row].values()))}}, self.resampling)
        return alone.cell(row, replace(figure, system="text"))

    def _measured(self, row: str, figure: Figure, seeds: Seq[int]) -> list[Measured]:
        """Return what a figure is made of, by seed; nothing if a seed lacks it."""
        found = [self.answered[row][seed].measured.get(figure) for seed in seeds]
        return [each for each in found if each is not None] if None not in found else []

    def _all(self) -> list[tuple[str, int, Answered]]:
        return [(row, seed, each) for row, seeds in self.answered.items() for seed, each in seeds.items()]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS) + 0.0


def _number(value: float) -> str:
    return f"{_rounded(float(value)):.{DECIMALS}f}"
