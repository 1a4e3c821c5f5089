"""What the benchmarks measured: `results.json`, and the page that is rendered from it.

Each figure stands under its name with its median and spread, and carries the machine, the versions and the commit that
it was measured with, so that a run of one case renews that one alone.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.scoring.provenance import commit, versions

HERE = Path(__file__).resolve().parent
PACKAGES = ("accelerate", "numpy", "pytorch-lightning")
"""beside those that every figure of the toolkit names"""


@dataclass
class Figure:
    """One figure, measured several times."""

    name: str
    what: str
    """what is divided by what, or what is measured; one sentence"""
    values: list[float]
    """one a repeat"""
    unit: str = "times"
    better: str = "higher"
    """`higher` or `lower`"""
    goal: float | None = None
    notes: list[str] = field(default_factory=list)
    """what else there is to say of it, a line each"""
    equal: bool | None = None
    """whether what must be equal on both sides was; None where nothing must"""
    raw: dict[str, Any] = field(default_factory=dict)
    """what it was worked out from"""

    def row(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return what `results.json` holds of it."""
        spread = {"median": statistics.median(self.values), "low": min(self.values), "high": max(self.values)}
        return {**spread, **{key: value for key, value in asdict(self).items() if key != "name"}, "about": about}


def machine() -> dict[str, Any]:
    """Return what the machine is, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def about(threads: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what a figure was measured with."""
    load = os.getloadavg()[0]
    packages = {**versions(), **{package: version(package) for package in PACKAGES}}
    return {
        "machine": machine(), "threads": threads, "load_before": round(load, 2), "versions": packages,
        "commit": commit(), "settings": settings,
    }  # fmt: skip


def keep(figures: Iterable[Figure], made_with: dict[str, Any], folder: Path = HERE) -> dict[str, Any]:
    """Write figures into `results.json` beside those that are there, and `RESULTS.md` of all; returns the former."""
    path = folder / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results |= {figure.name: figure.row(made_with) for figure in figures}
    written = json.dumps(results, indent=1, sort_keys=True) + "\n"
    results = json.loads(written)  # the page is of the file: in one order, whether just measured or read again
    folder.mkdir(parents=True, exist_ok=True)
    _replace(path, written)
    _replace(folder / "RESULTS.md", page(results, folder))
    return results


def page(results: dict[str, Any], folder: Path = HERE) -> str:
    """Render `RESULTS.md`: the table, what it was measured on, and the notes of each figure."""
    lines = [
        "# How fast it is",
        "",
        "Written by `python benchmarks/run.py`; what each figure is: [README.md](README.md).",
        "",
        "| figure | median | spread | goal | repeats | equalities | what |",
        "|---|--:|--:|--:|--:|---|---|",
    ]
    for name, row in results.items():
        equal = {None: "", True: "hold", False: "**broken**"}[row["equal"]]
        spread = f"{number(row['low'])} to {number(row['high'])}"
        lines.append(
            f"| `{name}` | {number(row['median'])} {row['unit']} | {spread} | {_goal(row)} | {len(row['values'])} "
            f"| {equal} | {row['what']} |"
        )
    lines += ["", "## Measured with", ""]
    for made_with, names in _alike(results):
        m = made_with["machine"]
        packages = ", ".join(f"{name} {found}" for name, found in made_with["versions"].items())
        settings = " ".join(f"{key}={value}" for key, value in made_with["settings"].items())
        lines += [
            f"* {', '.join(f'`{name}`' for name in names)}: {m['cpu']}, {m['cores']} cores, {m['memory_gb']:g} GB, "
            f"{m['system']}; threads: {made_with['threads']}, load {made_with['load_before']:g} before it began; "
            f"{packages}; commit {made_with['commit'] or 'unknown'}; {settings}"
        ]
    lines += ["", "## Notes", ""]
    for name, row in results.items():
        if row["notes"]:
            lines += [f"**{name}**", "", *[f"* {note}" for note in row["notes"]], ""]
    plots = sorted(path.name for path in (folder / "plots").glob("*.png"))
    if plots:
        lines += ["## Growth", "", *[f"![{plot.removesuffix('.png')}](plots/{plot})" for plot in plots], ""]
    if (folder / "PROFILE.md").exists():
        lines += ["Where the time of a training step goes: [PROFILE.md](PROFILE.md).", ""]
    return "\n".join(lines).rstrip() + "\n"


def show(results: dict[str, Any], names: Seq[str]) -> None:
    """Print some figures as a table."""
    table = Table(title="benchmarks")
    for column in ("figure", "median", "spread", "goal", "equalities"):
        table.add_column(column)
    for name in names:
        row = results[name]
        equal = {None: "", True: "hold", False: "[red]broken"}[row["equal"]]
        spread = f"{number(row['low'])} to {number(row['high'])}"
        table.add_row(name, f"{number(row['median'])} {row['unit']}", spread, _goal(row), equal)
    Console().print(table)


def number(value: float) -> str:
    """Write a number with three figures that mean something."""
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def _goal(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    return f"{'≥' if row['better'] == 'higher' else '≤'} {number(row['goal'])}"


def _alike(results: dict[str, Any]) -> list[tuple[dict[str, Any], list[str]]]:
    """Put the figures together that were measured with the same."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name, row in results.items():
        found.setdefault(json.dumps(row["about"], sort_keys=True), (row["about"], []))[1].append(name)
    return list(found.values())


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
