"""The main table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from toolkit.scoring.layout import Table, figure
from toolkit.scoring.results import Results


def terminal_table(results: Results) -> RichTable:
    """Draw the main table of some results with rich; print it on any console."""
    return draw(results.tables[0])


def draw(table: Table) -> RichTable:
    """Draw one table; the interval stands dimmed under its value, so that five columns fit a terminal."""
    drawn = RichTable(title=table.title, box=SIMPLE_HEAD, caption="\n".join(table.notes) or None, title_justify="left")
    drawn.add_column("system")
    for column in table.columns:
        head = Text(column.title.replace(", ", ",\n"))
        if column.count:
            head.append("\n" + column.count.replace(" (", "\n("), style="dim")
        drawn.add_column(head, justify="right")
    for name, cells in table.rows:
        line = [Text(name)]
        for cell, column in zip(cells, table.columns, strict=True):
            value, _, rest = figure(cell, column).partition(" ")
            line.append(Text.assemble(value, ("\n" + rest if rest else "", "dim")))
        drawn.add_row(*line)
    return drawn
