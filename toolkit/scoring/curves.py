"""Training curves from `train_log.jsonl`, as SVG that takes its ink from the page it stands in."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolkit.errors import DataError

LOG = "train_log.jsonl"
INK = "#010203"
"""stands for the page's own ink (`currentColor`), so that one picture serves a light and a dark page"""
COLOURS = ("#3a7bd5", "#e0792b", "#2f9e6e", "#b5519c", "#a08600", "#7a6ff0")
"""readable on white and on black"""
WIDTH, HEIGHT = 3.9, 2.5
"""inches of a panel"""
ACROSS = 2
"""panels side by side"""


@dataclass
class Phase:
    """One training run of an experiment: the warm start, say, or the imitation."""

    name: str
    series: dict[str, dict[int, float]] = field(default_factory=dict)
    """`loss`, `learning_rate`, `parts/ctc`, `validation/wer`, ... -> step -> value"""
    seconds: float = 0.0
    last: int = 0
    """the step of the last line"""

    def add(self, row: dict[str, Any]) -> None:
        """Add a line of the log; where a run went back to an earlier step, what had followed is void."""
        step = int(row["step"])
        if step < self.last:
            for points in self.series.values():
                for void in [known for known in points if known >= step]:
                    del points[void]
        self.last, self.seconds = step, float(row.get("seconds", self.seconds))
        for name in ("loss", "learning_rate"):
            if name in row:
                self.series.setdefault(name, {})[step] = float(row[name])
        for kind in ("parts", "validation"):
            for name, value in (row.get(kind) or {}).items():
                self.series.setdefault(f"{kind}/{name}", {})[step] = float(value)


def read_log(path: Path) -> list[Phase]:
    """Read a training log by phase, in the order of their first lines; no file makes no phase.

    Raises:
        DataError: a line is not a record of a step. A last line without its end is what an interrupted run
            leaves behind, and is passed over.
    """
    if not path.is_file():
        return []
    phases: dict[str, Phase] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = str(row.get("phase", ""))
            phases.setdefault(name, Phase(name)).add(row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number} is not a line of a training log: {error!r}") from error
    return list(phases.values())


def draw(phase: Phase) -> str:
    """Draw a phase's curves as one `<svg>` element, empty where nothing was logged."""
    panels = list(_panels(phase))
    if not panels:
        return ""
    rows = -(-len(panels) // ACROSS)
    # One SVG inlined after another must not share ids; names of series are data and must not become formulas.
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": phase.name or LOG,
        "text.parse_math": False,
        "font.size": 9,
    }
    with matplotlib.rc_context(style):
        picture = Figure(figsize=(WIDTH * ACROSS, HEIGHT * rows), layout="constrained")
        axes = picture.subplots(rows, ACROSS, squeeze=False).flatten()
        for place, panel in zip(axes, panels, strict=False):
            _fill(place, *panel)
        for place in axes[len(panels) :]:
            place.set_axis_off()
        buffer = io.StringIO()
        picture.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


Lines = dict[str, dict[int, float]]


def _panels(phase: Phase) -> Iterator[tuple[str, Lines]]:
    """Yield (title, name -> points): losses together, parts together, every other measure alone."""
    series = phase.series
    losses = {"training": series.get("loss", {}), "validation": series.get("validation/loss", {})}
    parts = {name.split("/", 1)[1]: points for name, points in series.items() if name.startswith("parts/")}
    groups: list[tuple[str, Lines]] = [("loss", losses)]
    if len(parts) > 1:  # a single part is the loss again
        groups.append(("parts of the loss", parts))
    groups += [
        (name.replace("/", ": "), {"": points})
        for name, points in series.items()
        if name.startswith("validation/") and name != "validation/loss"
    ]
    groups.append(("learning rate", {"": series.get("learning_rate", {})}))
    for title, lines in groups:
        filled = {name: points for name, points in lines.items() if points}
        if filled:
            yield title, filled


def _fill(place: Axes, title: str, lines: Lines) -> None:
    for (name, points), colour in zip(lines.items(), COLOURS * len(lines), strict=False):
        steps = sorted(points)
        marker = "o" if len(steps) <= 20 else ""
        place.plot(steps, [points[step] for step in steps], color=colour, label=name, linewidth=1.5,
                   marker=marker, markersize=3)  # fmt: skip
    place.set_title(title, color=INK, loc="left", fontsize=10)
    place.set_xlabel("step", color=INK)
    place.tick_params(colors=INK)
    place.grid(color=INK, alpha=0.12, linewidth=0.6)
    for side, spine in place.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    if any(lines):
        place.legend(frameon=False, labelcolor=INK, fontsize=8)
