"""Pictures of a table: every column by row with its intervals, and curves through rows that differ in one number."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from toolkit.scoring.curves import COLOURS
from toolkit.scoring.layout import Cell, Table
from toolkit.scoring.scorecard import write_text
from toolkit.tables.spec import Spec

FOLDER = "plots"
INK = "#7f7f7f"
"""readable on white and on black: the pictures stand in pages of both"""
ACROSS, WIDTH, HEIGHT = 3, 3.4, 2.6
"""panels side by side, inches of a panel"""
ROW = 0.22
"""inches of a row"""


def write_plots(folder: Path, spec: Spec, table: Table) -> dict[str, str]:
    """Draw what there is of the main table, and of the curves that have two points or more.

    Args:
        folder: of the page.
        spec: of the table, which says what the curves are.
        table: the main one.

    Returns:
        title -> file, relative to `folder`.
    """
    made, cells = {}, dict(table.rows)
    # The same figures give the same file; names of rows are data and must not become formulas.
    with matplotlib.rc_context({"svg.fonttype": "none", "text.parse_math": False, "font.size": 8}):
        if any(_measured(each) for each in cells.values()):
            made["Figures by row"] = _write(folder, "rows", _by_row(table))
        for name, axis in spec.plots.items():
            places = {row.plot[name]: row.name for row in spec.rows if name in row.plot and _measured(cells[row.name])}
            if len(places) > 1:
                made[f"Figures by {axis}"] = _write(folder, name, _curve(table, axis, dict(sorted(places.items()))))
    return made


def _measured(cells: tuple[Cell, ...]) -> bool:
    return any(cell.value is not None for cell in cells)


def _by_row(table: Table) -> Picture:
    names = [name for name, cells in table.rows if _measured(cells)]
    cells = dict(table.rows)
    picture, panels = _panels(table, ROW * len(names) + 1)
    for number, place in enumerate(panels):
        for height, name in enumerate(reversed(names)):
            cell = cells[name][number]
            if cell.value is not None:
                _point(place, cell, height, COLOURS[0], flat=True)
        first = number % ACROSS == 0
        place.set_yticks(range(len(names)), list(reversed(names)) if first else [""] * len(names), color=INK)
        place.set_ylim(-0.6, len(names) - 0.4)
    return picture


def _curve(table: Table, axis: str, places: dict[float, str]) -> Picture:
    cells = dict(table.rows)
    picture, panels = _panels(table, HEIGHT)
    for number, place in enumerate(panels):
        points = {x: cells[name][number] for x, name in places.items()}
        known = {x: cell.value for x, cell in points.items() if cell.value is not None}
        place.plot(list(known), list(known.values()), color=COLOURS[0], linewidth=1)
        for x, cell in points.items():
            if cell.value is not None:
                _point(place, cell, x, COLOURS[0], flat=False)
        place.set_xticks(list(places))
        place.set_xlabel(axis, color=INK)
    return picture


def _panels(table: Table, height: float) -> tuple[Picture, list[Axes]]:
    count = len(table.columns)
    across = min(ACROSS, count)
    down = -(-count // across)
    picture = Picture(figsize=(WIDTH * across + 0.6, height * down), layout="constrained")
    places = list(picture.subplots(down, across, squeeze=False).flatten())
    for place in places[count:]:
        place.set_axis_off()
    for place, column in zip(places, table.columns, strict=False):
        place.set_title(column.title, color=INK, loc="left", fontsize=9)
        place.tick_params(colors=INK)
        place.grid(color=INK, alpha=0.2, linewidth=0.6)
        for side, spine in place.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
    return picture, places[:count]


def _point(place: Axes, cell: Cell, at: float, colour: str, *, flat: bool) -> None:
    assert cell.value is not None
    if cell.low is not None and cell.high is not None:
        ends, there = (cell.low, cell.high), (at, at)
        place.plot(*((ends, there) if flat else (there, ends)), color=colour, linewidth=1.2)
    place.plot(*((cell.value, at) if flat else (at, cell.value)), marker="o", color=colour, markersize=4)


def _write(folder: Path, name: str, picture: Picture) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        picture.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    path = Path(FOLDER) / f"{name}.svg"
    write_text(folder / path, buffer.getvalue())
    return path.as_posix()
