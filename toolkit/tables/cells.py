"""From the rows of a table to cells: one for each row and seed, and one for the warm start of each seed.

A cell is what a sweep runs: a folder, overrides, a process of its own. Here it makes the data too, if they are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

from toolkit.config import Config
from toolkit.errors import ConfigError, DataError, check_names
from toolkit.sweep.cell import DATA
from toolkit.sweep.plan import composed, key_of
from toolkit.sweep.record import STAGES
from toolkit.sweep.run import Job
from toolkit.tables.spec import OURS, WARM, Row, Spec

PLACES = ("exp_dir", "train.init_from")
"""overrides that say where a cell lies, not what it is"""


@dataclass(frozen=True)
class TableCell:
    """One system of one seed."""

    row: str
    seed: int
    folder: Path
    job: Job
    config: Config
    shown: bool
    """is decoded, scored and shown; a warm start need not be"""

    @property
    def name(self) -> str:
        """Of its folder."""
        return cell_name(self.row, self.seed)

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.config.train.steps > 0

    @property
    def settings(self) -> list[str]:
        """All that decides what it is, wherever it lies."""
        return [override for override in self.job.overrides if key_of(override) not in PLACES]


def cell_name(row: str, seed: int) -> str:
    """Return the name of a cell's folder."""
    return f"{row}.{seed}"


def plan_cells(spec: Spec, exp: Path, more: Seq[str]) -> dict[str, TableCell]:
    """Return all cells of a table by name, seed by seed, each after the warm start that it begins from.

    Args:
        spec: the table.
        exp: folder of the cells' folders.
        more: overrides of the command line, for all cells; they have the last word.

    Raises:
        ConfigError: an override that is none, or that is the table's own; parts that contradict each other.
        DataError: the rows would answer different questions.
    """
    for key in map(key_of, more):
        if key in OURS:
            raise ConfigError(f"{key} is set by the table: say it by {OURS[key]}")
    rows = [row for row in spec.rows if row.name != WARM or spec.warm is None]
    trains = {row.name: _trains(spec, row, exp, more) for row in rows}
    cells: dict[str, TableCell] = {}
    for seed in sorted({seed for row in spec.rows for seed in row.seeds}):
        asked = [row for row in rows if seed in row.seeds]
        begun = any(row.warm and trains[row.name] for row in asked)
        if spec.warm is not None and (begun or spec.warm.row):
            warm = _warm_cell(spec, seed, exp, more)
            cells[warm.name] = warm
        for row in asked:
            cell = _row_cell(spec, row, seed, exp, more, trains[row.name])
            cells[cell.name] = cell
    _check_questions([cell for cell in cells.values() if cell.shown])
    return cells


def choose(spec: Spec, cells: Mapping[str, TableCell], only: Seq[str], seeds: Seq[int]) -> list[TableCell]:
    """Return the shown cells of some rows and seeds; all, if none is named.

    Raises:
        UnknownNameError: no row has the name.
        ConfigError: nothing is left.
    """
    check_names("row", only, [row.name for row in spec.rows])
    chosen = [
        cell
        for cell in cells.values()
        if cell.shown and (not only or cell.row in only) and (not seeds or cell.seed in seeds)
    ]
    if not chosen:
        raise ConfigError("no row that is named has a seed that is named")
    return chosen


def with_warm(cells: Mapping[str, TableCell], chosen: Seq[TableCell]) -> dict[Path, Job]:
    """Return what is to be run for some cells, with the warm starts that they begin from, in the table's order."""
    wanted = {cell.folder for cell in chosen} | {cell.job.after for cell in chosen}
    return {cell.folder: cell.job for cell in cells.values() if cell.folder in wanted}


def _trains(spec: Spec, row: Row, exp: Path, more: Seq[str]) -> bool:
    """Tell whether a row trains anything; a recipe that does not, as the cascade, says so by `train.steps: 0`."""
    given = [override for override in more if key_of(override) != "train.steps"]
    overrides = [*spec.shared, f"recipes={row.recipe}", *row.overrides, *given, f"exp_dir={exp / row.name}"]
    return composed(row.name, overrides).train.steps > 0


def _row_cell(spec: Spec, row: Row, seed: int, exp: Path, more: Seq[str], trained: bool) -> TableCell:
    name = cell_name(row.name, seed)
    after = exp / cell_name(WARM, seed) if spec.warm is not None and row.warm and trained else None
    budget = [f"train.steps={spec.steps}", f"train.max_minutes={spec.minutes:g}"] if trained else []
    ends = [] if trained else ["train.steps=0"]  # whatever the command line says of those that are trained
    init = f"train.init_from={after / 'checkpoint' if after else ''}"
    overrides = [
        *spec.shared, f"recipes={row.recipe}", *row.overrides, *budget, *more, *ends,
        f"seed={seed}", init, f"exp_dir={exp / name}",
    ]  # fmt: skip
    config = composed(name, overrides)
    job = Job(overrides, config.train.steps, config.train.max_minutes, (*DATA, *STAGES), after)
    return TableCell(row.name, seed, exp / name, job, config, shown=True)


def _warm_cell(spec: Spec, seed: int, exp: Path, more: Seq[str]) -> TableCell:
    assert spec.warm is not None
    name = cell_name(WARM, seed)
    warm = spec.warm
    overrides = [
        *spec.shared, f"recipes={warm.recipe}", *warm.overrides, f"train.steps={warm.steps}",
        f"train.max_minutes={warm.minutes:g}", *more, f"seed={seed}", "train.init_from=", f"exp_dir={exp / name}",
    ]  # fmt: skip
    config = composed(name, overrides)
    stages = (*DATA, *STAGES) if warm.row else (*(stage for stage in DATA if stage != "imitate"), "train")
    job = Job(overrides, config.train.steps, config.train.max_minutes, stages)
    return TableCell(WARM, seed, exp / name, job, config, shown=warm.row)


def _check_questions(cells: Seq[TableCell]) -> None:
    """Refuse rows that would be asked different things: better now than after hours."""
    asked = {
        cell.name: (c.imitate.tasks, c.imitate.test_utterances, c.imitate.max_new_tokens, c.decode.split, c.data_dir)
        for cell in cells
        for c in (cell.config,)
    }
    (first, those), *others = asked.items()
    for name, these in others:
        if these != those:
            raise DataError(f"'{first}' and '{name}' would answer different questions: {those} and {these}")
