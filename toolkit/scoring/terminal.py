"""The main table and the worked examples for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from toolkit.scoring.answers import GROUPS
from toolkit.scoring.layout import Table, figure
from toolkit.scoring.results import Results, Shown


def terminal_summary(results: Results) -> Group:
    """Draw the main table and the worked examples with rich; print it on any console."""
    return Group(draw(results.tables[0]), *(draw_example(shown) for shown in results.examples))


def draw_example(shown: Shown) -> RichTable:
    """Draw one worked example: what was said and asked, and the answers to it."""
    example = shown.example
    drawn = RichTable.grid(padding=(0, 2), pad_edge=True)
    drawn.add_row(Text("transcript", "dim"), Text(example.transcript))
    drawn.add_row(Text("prompt", "dim"), Text(f"{example.prompt}   ({GROUPS[example.group]})"))
    for name, answer in (*shown.text.items(), *shown.speech.items()):
        drawn.add_row(Text(name, "dim"), Text(answer or "(empty)"))
    drawn.add_row("", "")
    return drawn


def draw(table: Table) -> RichTable:
    """Draw one table; the interval stands dimmed under its value, so that five columns fit a terminal."""
    drawn = RichTable(title=table.title, box=SIMPLE_HEAD, caption="\n".join(table.notes) or None, title_justify="left")
    drawn.add_column(table.corner)
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
