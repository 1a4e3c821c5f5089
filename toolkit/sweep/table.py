"""The one table of a sweep (`SWEEP.md`, `sweep.json`, terminal): a cell that failed has its row like any other."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from toolkit.scoring.layout import NOTHING, Cell, Column, Table, figure
from toolkit.scoring.markdown import PAGE as RESULTS
from toolkit.scoring.markdown import escape, write_results
from toolkit.scoring.report import FILE as REPORT
from toolkit.scoring.scorecard import FILE, read_scorecard, write_text
from toolkit.scoring.terminal import draw
from toolkit.sweep.record import DONE, FAILED, LOG, Cost, Record, read_cost, read_record

PAGE, VALUES = "SWEEP.md", "sweep.json"
COSTS = (
    Column("parameters, thousands"),
    Column("embeddings, a second"),
    Column("steps"),
    Column("step, ms"),
    Column("memory, MB"),
    Column("minutes"),
)
LEGEND = (
    "Each score is a value with its 95 % interval. WER: lower is better. Agreement: 100 is the text LLM's own answer, "
    f"0 its answer to another utterance. {NOTHING}: not run, or not measurable. "
    "Parameters: those that are trained. "
    "Embeddings: how many the trained adapter makes of a second of speech of the test set, at the real lengths. "
    "Step: the median optimiser step, with what loads its batch. "
    "Memory: peak resident set of the process that trained, frozen models included. "
    "Minutes: the whole cell, decoding included. "
    "Times are of this machine and of what else it did."
)


@dataclass(frozen=True)
class Row:
    """One cell of the sweep as the table has it."""

    name: str
    record: Record | None
    """None where it was not run"""
    cost: Cost | None
    log: str
    """relative to the folder of the sweep"""

    @property
    def state(self) -> str:
        """`done`, `failed`, `unfinished` or `not run`."""
        return "not run" if self.record is None else self.record.state

    @property
    def title(self) -> str:
        """The name, and what is wrong."""
        return self.name if self.state == DONE else f"{self.name} ({self.state})"

    @property
    def trouble(self) -> str:
        """The error of a cell that failed, else nothing."""
        return self.record.error if self.record is not None and self.state == FAILED else ""


@dataclass(frozen=True)
class SweepTable:
    """All that is shown of a sweep."""

    title: str
    about: str
    table: Table
    rows: tuple[Row, ...]
    made_with: dict[str, Any]


def gather(title: str, about: str, exp: Path, names: Seq[str], made_with: dict[str, Any]) -> SweepTable:
    """Read what there is of a sweep and write `RESULTS.md` (by task, with examples) for the cells that are done.

    Args:
        title: of the page.
        about: a sentence on what is compared.
        exp: folder of the sweep, with a folder for each cell.
        names: of the cells, in order.
        made_with: budget and circumstances.

    Raises:
        DataError: cells that are done cannot stand in one table.
    """
    rows = tuple(_read(exp, name) for name in names)
    done = [row.name for row in rows if row.state == DONE]
    scores = Table("", (), ())
    if done:
        scores = write_results(exp, {name: read_scorecard(exp / name / FILE) for name in done}).tables[0]
    known = dict(scores.rows[: len(done)])
    nothing = tuple(Cell(None) for _ in scores.columns)
    lines = [(row.title, known.get(row.name, nothing) + _costs(row)) for row in rows]
    # What else was measured: the topline, and controls such as the deaf one where they were asked for.
    lines += [
        (name, cells + tuple(Cell(None) for _ in COSTS))
        for name, cells in scores.rows[len(done) :]
        if any(cell.value is not None for cell in cells)
    ]
    machine = {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    table = Table(title, scores.columns + COSTS, tuple(lines))
    return SweepTable(title, about, table, rows, {**made_with, **machine})


def write_sweep(exp: Path, sweep: SweepTable) -> None:
    """Write `SWEEP.md` and `sweep.json`, by temporary names."""
    cells = {
        row.name: {"state": row.state, "log": row.log} | _plain(row.record) | _plain(row.cost) for row in sweep.rows
    }
    plain = {
        "title": sweep.title, "about": sweep.about, "made_with": sweep.made_with, "cells": cells,
        "table": asdict(sweep.table),
    }  # fmt: skip
    write_text(exp / VALUES, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(exp / PAGE, render_page(sweep))


def render_page(sweep: SweepTable) -> str:
    """Draw the page: the table, its last column saying how each cell ended."""
    table, by_title = sweep.table, {row.title: row for row in sweep.rows}
    heads = [escape(c.title) + (f"<br>{c.count}" if c.count else "") for c in table.columns]
    lines = [f"# {escape(sweep.title)}", "", sweep.about, "", LEGEND, ""]
    lines += [_line(["cell", *heads, "ended"]), _line(["---", *("---:" for _ in heads), "---"])]
    for title, cells in table.rows:
        row = by_title.get(title)
        figures = [figure(cell, column) for cell, column in zip(cells, table.columns, strict=True)]
        lines.append(_line([escape(title), *figures, NOTHING if row is None else _ended(row)]))
    lines += ["", *(f"{NOTHING} {escape(note)}" for note in table.notes)]
    if any(row.state == DONE for row in sweep.rows):
        lines += ["", f"Scores by task, worked examples and definitions: [{RESULTS}]({RESULTS})."]
    facts = ", ".join(f"{key} {value}" for key, value in sweep.made_with.items() if value not in (None, ""))
    return "\n".join([*lines, "", f"Made with: {escape(facts)}.", ""])


def draw_sweep(exp: Path, sweep: SweepTable) -> Group:
    """Draw the table for a terminal, in two parts so that it fits, and below it what went wrong."""
    scores, costs = _split(sweep)
    troubles = [
        Text.assemble((f"{row.name} failed: ", "bold red"), row.trouble, (f"  (log: {exp / row.log})", "dim"))
        for row in sweep.rows
        if row.trouble
    ]
    return Group(draw(scores), draw(costs), *troubles)


def _split(sweep: SweepTable) -> tuple[Table, Table]:
    """Return the scores, and what they cost."""
    table, border = sweep.table, len(sweep.table.columns) - len(COSTS)
    scores = tuple((title, cells[:border]) for title, cells in table.rows)
    costs = tuple((title, cells[border:]) for title, cells in table.rows[: len(sweep.rows)])
    return Table(table.title, table.columns[:border], scores), Table("Cost", table.columns[border:], costs)


def _read(exp: Path, name: str) -> Row:
    return Row(name, read_record(exp / name), read_cost(exp / name), f"{name}/{LOG}")


def _costs(row: Row) -> tuple[Cell, ...]:
    minutes = Cell(None) if row.record is None else Cell(round(row.record.seconds / 60, 1))
    if row.cost is None:
        return (*(Cell(None) for _ in COSTS[1:]), minutes)
    cost = row.cost
    values = (
        None if cost.parameters is None else round(cost.parameters / 1e3),
        None if cost.embeddings_per_second is None else round(cost.embeddings_per_second, 1),
        cost.steps,
        None if cost.step_seconds is None else round(1e3 * cost.step_seconds),
        None if cost.memory is None else round(cost.memory / 1e6),
    )
    return (*(Cell(value) for value in values), minutes)


def _ended(row: Row) -> str:
    if row.trouble:
        return f"{row.state}: {escape(row.trouble)} ([log]({row.log}))"
    return f"[{row.state}]({row.name}/{REPORT})" if row.state == DONE else row.state


def _plain(value: Record | Cost | None) -> dict[str, Any]:
    return {} if value is None else asdict(value)


def _line(cells: Seq[str]) -> str:
    return f"| {' | '.join(cells)} |"
