"""Tables as values: what is shown and how a figure is written, whatever they are drawn on."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One figure, rounded as it is shown; None where there is none to show."""

    decimals: ClassVar[int] = 1

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    utterances: int = 0
    left_out: int = 0
    """answers that could not be counted, since the text LLM's own answer names no choice"""
    extra: str = ""
    """shown after the figure, such as the number of unparsed answers"""
    note: str = ""
    """why there is no value or no interval"""

    @property
    def count(self) -> str:
        """What was counted, in words."""
        left_out = f", {self.left_out} left out" if self.left_out else ""
        return f"n = {self.n} ({self.utterances} utt.{left_out})" if self.n or self.left_out else ""


@dataclass(frozen=True)
class FineCell(Cell):
    """A figure of a scale so small that it is shown with more decimals."""

    decimals: ClassVar[int] = 3


@dataclass(frozen=True)
class Column:
    """What stands at the head of a column."""

    title: str
    count: str = ""
    """such as `n = 40 (20 utt.)`; empty where the cells differ and each shows its own"""


@dataclass(frozen=True)
class Table:
    """Figures by system (rows) and by what they measure (columns)."""

    corner: ClassVar[str] = "system"
    """what a row is"""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    """name of the system -> its cells"""

    @property
    def says_something(self) -> bool:
        """Whether there is any figure, or a reason why there is none."""
        return any(cell.value is not None or cell.note for _, cells in self.rows for cell in cells)

    @property
    def notes(self) -> list[str]:
        """Why figures are missing, once per reason, with the columns where they are."""
        reasons: dict[str, dict[str, None]] = {}
        for _, cells in self.rows:
            for column, cell in zip(self.columns, cells, strict=True):
                if cell.note:
                    reasons.setdefault(cell.note, {})[column.title] = None
        return [f"{', '.join(columns)}: {reason}" for reason, columns in reasons.items()]


@dataclass(frozen=True)
class TaskTable(Table):
    """Figures by task (rows) and by what they measure (columns)."""

    corner: ClassVar[str] = "task"


@dataclass(frozen=True)
class MeasureTable(Table):
    """Figures by what they measure (rows) and by system (columns)."""

    corner: ClassVar[str] = "measure"


def turned(table: Table) -> MeasureTable:
    """Turn a table of many measures about, so that it fits a terminal."""
    rows = tuple(
        (column.title, tuple(cells[number] for _, cells in table.rows)) for number, column in enumerate(table.columns)
    )
    return MeasureTable(table.title, headed([name for name, _ in table.rows], [cells for _, cells in rows]), rows)


def headed(titles: Seq[str], rows: Seq[Seq[Cell]]) -> tuple[Column, ...]:
    """Make the heads of columns; what all cells of one count stands at its head."""
    heads = []
    for number, title in enumerate(titles):
        counts = {line[number].count for line in rows if line[number].count}
        heads.append(Column(title, counts.pop() if len(counts) == 1 else ""))
    return tuple(heads)


def figure(cell: Cell, column: Column) -> str:
    """Write a cell: `12.3 [10.1, 14.5]`, and what is particular to it in parentheses."""
    remarks = [cell.extra] if cell.extra else []
    if cell.count and not column.count:
        remarks.append(cell.count)
    low, value, high = (NOTHING if x is None else number(x, cell.decimals) for x in (cell.low, cell.value, cell.high))
    interval = "" if NOTHING in (low, high) else f" [{low}, {high}]"
    return value + interval + (f" ({'; '.join(remarks)})" if remarks else "")


def number(value: float, decimals: int = 1) -> str:
    """Write counts as they are and all else with the decimals to which figures are rounded."""
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"
