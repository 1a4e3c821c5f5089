"""All that a table's page says, as plain values: made of the kept answers, and of nothing else but how cells ended."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.errors import DataError
from toolkit.scoring import metrics
from toolkit.scoring.answers import GROUPS
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.comparison import paired_test
from toolkit.scoring.detectors import DEFINITION as FAULTS
from toolkit.scoring.detectors import DETECTORS
from toolkit.scoring.examples import RULE, choose
from toolkit.scoring.figures import MODEL, Answered, Figure, count
from toolkit.scoring.layout import Column, Table
from toolkit.scoring.normalisation import normaliser
from toolkit.scoring.results import Shown
from toolkit.scoring.scorecard import ALL
from toolkit.sweep.record import DONE, FAILED, read_record
from toolkit.tables.cells import TableCell
from toolkit.tables.claims import Pair, Verdict, judge
from toolkit.tables.kept import MADE, Made, kept_files, read_made
from toolkit.tables.rows import Rows, interval_definition
from toolkit.tables.spec import WARM, Published, Row, Spec

TRAINING = "train"
DECODING = ("decode", "score")


@dataclass(frozen=True)
class CellFacts:
    """One system of one seed: how it ended and what it cost."""

    seed: int
    state: str
    """`done`, `failed`, `unfinished` or `not run`"""
    trouble: str
    """of one that failed"""
    made: Made | None


@dataclass(frozen=True)
class RowFacts:
    """One system beside its figures."""

    name: str
    recipe: str
    overrides: tuple[str, ...]
    about: str
    published: tuple[Published, ...]
    cells: tuple[CellFacts, ...]

    @property
    def made(self) -> list[Made]:
        """What made the answers, of those seeds that have any."""
        return [cell.made for cell in self.cells if cell.made is not None]

    def hours(self, stages: Seq[str] | None = None) -> float | None:
        """Return the hours of some stages, or of all from start to end, over all seeds; None where nothing ran."""
        seconds = [sum(m.times.get(s, 0.0) for s in stages) if stages else m.seconds for m in self.made]
        return round(sum(seconds) / 3600, 5) if seconds else None  # a stage's time is kept to 0.1 s: 0.00003 h


@dataclass(frozen=True)
class TableResults:
    """A table with all that stands around it. The first table is the one to read."""

    title: str
    about: str
    command: str
    budget: str
    tables: tuple[Table, ...]
    rows: tuple[RowFacts, ...]
    verdicts: tuple[Verdict, ...]
    plots: dict[str, str]
    """title -> file, relative to the page"""
    definitions: dict[str, str]
    examples: tuple[Shown, ...]


@dataclass(frozen=True)
class Source:
    """Where a table is made from."""

    spec: Spec
    title: str
    command: str
    answers: Path
    """the kept answers"""
    normaliser: str
    resampling: Resampling
    examples: int


def load(source: Source, cells: Seq[TableCell]) -> Rows:
    """Read the kept answers of some cells."""
    answered: dict[str, dict[int, Answered]] = {}
    untrained: set[str] = set()
    for cell in cells:
        folder = source.answers / cell.name
        made = read_made(folder)
        if made is None:
            continue
        answered.setdefault(cell.row, {})[cell.seed] = _count(
            folder, (folder / MADE).stat().st_mtime_ns, source.normaliser
        )
        if not made.trained:
            untrained.add(cell.row)
    return Rows(answered, source.resampling, sorted(untrained))


def gather(source: Source, cells: Mapping[str, TableCell], rows: Rows) -> TableResults:
    """Make all that the page says, but for the plots.

    Args:
        source: the table.
        cells: all of the table, by name.
        rows: their answers.
    """
    spec = source.spec
    facts = tuple(_facts(source, row, cells) for row in spec.rows)
    tables = [_table("Scores", [Figure.named(name) for name in spec.columns], spec, rows)]
    figures = rows.figures()
    for group, title in GROUPS.items():
        by_task = [f for f in figures if (f.metric, f.group, f.system) == ("agreement", group, MODEL) and f.task != ALL]
        tables.append(_table(f"Agreement by task: {title}", by_task, spec, rows))
    deaf = [f for f in figures if (f.metric, f.system, f.task) == ("agreement", "deaf", ALL)]
    tables.append(_table("The deaf control: another utterance's speech", deaf, spec, rows))
    faults = [f for f in figures if f.metric in DETECTORS and f.system == MODEL]
    tables.append(_table("Faulty answers", faults, spec, rows))

    def find(row: str, figure: Figure, other: str, other_figure: Figure) -> Pair | str:
        try:
            return rows.pair(row, figure, other, other_figure)
        except DataError as error:
            return str(error)

    verdicts = tuple(each for claim in spec.claims for each in judge(claim, find, source.resampling))
    return TableResults(
        source.title, spec.about, source.command, _budget(spec, cells),
        (tables[0], *(table for table in tables[1:] if table.says_something)),
        facts, verdicts, {}, _definitions(source), _examples(rows, source.examples),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _count(folder: Path, stamp: int, normaliser_name: str) -> Answered:
    """Count a cell's answers once, however often the page is made; `stamp` tells new answers from old ones."""
    return count(kept_files(folder), normaliser_name)


def _facts(source: Source, row: Row, cells: Mapping[str, TableCell]) -> RowFacts:
    found = []
    for cell in (cell for cell in cells.values() if cell.row == row.name and cell.shown):
        made, record = read_made(source.answers / cell.name), read_record(cell.folder)
        # A fresh clone has answers and no experiments.
        state = DONE if made is not None else record.state if record is not None else "not run"
        trouble = record.error if record is not None and state == FAILED else ""
        found.append(CellFacts(cell.seed, state, trouble, made))
    return RowFacts(row.name, row.recipe, row.overrides, row.about, row.published, tuple(found))


def _table(title: str, figures: Seq[Figure], spec: Spec, rows: Rows) -> Table:
    lines = [(row.name, tuple(rows.cell(row.name, figure) for figure in figures)) for row in spec.rows]
    lines += [
        (name, tuple(rows.topline_cell(row, figure) for figure in figures)) for name, row in rows.toplines().items()
    ]
    columns = []
    for number, figure in enumerate(figures):
        counts = {cells[number].count for _, cells in lines if cells[number].count}
        columns.append(Column(figure.title, counts.pop() if len(counts) == 1 else ""))
    return Table(title, tuple(columns), tuple(lines))


def _budget(spec: Spec, cells: Mapping[str, TableCell]) -> str:
    """Say what every row was given, as it is composed, with what the command line has changed."""

    def words(cell: TableCell) -> str:
        train = cell.config.train
        limit = f", at most {train.max_minutes:g} minutes" if train.max_minutes else ""
        size = f"at most {train.batch_tokens} positions" if train.batch_tokens else train.batch_size
        return f"{train.steps} steps of {size}{limit}"

    trained = [cell for cell in cells.values() if cell.trained]
    rows = next((words(cell) for cell in trained if cell.row != WARM), "nothing is trained")
    warm = next((words(cell) for cell in trained if cell.row == WARM), "")
    begins = f"; each begins from the warm start of its seed ({warm}), which is trained once" if warm else ""
    return f"Every row that is trained has the same budget: {rows}{begins}."


def _definitions(source: Source) -> dict[str, str]:
    return {
        "wer": metrics.WORD_ERRORS,
        "normaliser": normaliser(source.normaliser).description,
        "agreement": metrics.agreement_definition(),
        "accuracy": metrics.ACCURACY,
        "faults": FAULTS,
        "interval": interval_definition(source.resampling),
        "comparison": paired_test(source.resampling),
        "examples": RULE,
    }


def _examples(rows: Rows, number: int) -> tuple[Shown, ...]:
    """Choose examples and let every row's first seed answer."""
    chosen = {row: choose(next(iter(seeds.values())).paired, number) for row, seeds in rows.answered.items()}
    if not chosen:
        return ()
    shown = []
    for position, example in enumerate(next(iter(chosen.values()))):
        speech = {row: examples[position].answers[MODEL] for row, examples in chosen.items()}
        text = {title: chosen[row][position].answers["text"] for title, row in rows.toplines().items()}
        shown.append(Shown(replace(example, answers={}, heard={}), speech, text))
    return tuple(shown)


def plain_rows(results: TableResults) -> dict[str, Any]:
    """Return what made each row, for `results.json`: hours by row beside what every cell says of itself."""
    return {
        row.name: {"hours": row.hours(), "hours of training": row.hours([TRAINING]),
                   "hours of decoding": row.hours(DECODING)}
        for row in results.rows
    }  # fmt: skip
