"""Tables as values: what is shown and how a figure is written, whatever they are drawn on."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One figure, rounded as it is shown; None where there is none to show."""

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
class Column:
    """What stands at the head of a column."""

    title: str
    count: str = ""
    """such as `n = 40 (20 utt.)`; empty where the cells differ and each shows its own"""


@dataclass(frozen=True)
class Table:
    """Figures by system (rows) and by what they measure (columns)."""

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


def figure(cell: Cell, column: Column) -> str:
    """Write a cell: `12.3 [10.1, 14.5]`, and what is particular to it in parentheses."""
    remarks = [cell.extra] if cell.extra else []
    if cell.count and not column.count:
        remarks.append(cell.count)
    interval = "" if cell.low is None or cell.high is None else f" [{number(cell.low)}, {number(cell.high)}]"
    value = NOTHING if cell.value is None else number(cell.value)
    return value + interval + (f" ({'; '.join(remarks)})" if remarks else "")


def number(value: float) -> str:
    """Write counts as they are and all else with one decimal, to which figures are rounded."""
    return str(value) if isinstance(value, int) else f"{value:.1f}"
