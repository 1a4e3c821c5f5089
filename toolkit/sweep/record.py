"""What is known of a cell: `cell.json` (by the sweep that runs it) and `cost.json` (by the cell itself)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from toolkit.scoring.scorecard import write_text

CELL, COST, TIMES, LOG = "cell.json", "cost.json", "times.json", "log"
STAGES = ("train", "decode", "score")
"""what a cell does, if it is not told otherwise"""
DONE, FAILED, UNFINISHED = "done", "failed", "unfinished"


@dataclass(frozen=True)
class Record:
    """How far a cell is."""

    overrides: list[str]
    """all that its configuration is composed of"""
    state: str = UNFINISHED
    seconds: float = 0.0
    """from its start to its end, over all attempts"""
    error: str = ""
    """the last line of what went wrong"""
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    """what it does, in this order"""

    def write(self, folder: Path) -> None:
        """Write it, by a temporary name."""
        _write(folder / CELL, self)


@dataclass(frozen=True)
class Cost:
    """What a cell has cost; None is not known (yet)."""

    steps: int
    """optimiser steps taken"""
    step_seconds: float | None
    """median time of one, with what loads its batch"""
    memory: int | None
    """peak resident set of the process that trained, in bytes"""
    parameters: int | None = None
    """trained"""
    embeddings_per_second: float | None = None
    """of speech: what the decoder has to read"""
    threads: int | None = None
    """of torch, in the process that trained"""

    def write(self, folder: Path) -> None:
        """Write it, by a temporary name."""
        _write(folder / COST, self)


def read_record(folder: Path) -> Record | None:
    """Read how far a cell is; None where it was never begun."""
    path = folder / CELL
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def read_cost(folder: Path) -> Cost | None:
    """Read what a cell has cost; None where it was never trained to its end."""
    path = folder / COST
    return Cost(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def read_times(folder: Path) -> dict[str, float]:
    """Read the seconds that each stage of a cell has taken, over all attempts in which it came to its end."""
    path = folder / TIMES
    times: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return times


def add_time(folder: Path, stage: str, seconds: float) -> None:
    """Add what a stage has taken now."""
    times = read_times(folder)
    write_text(folder / TIMES, json.dumps({**times, stage: round(times.get(stage, 0.0) + seconds, 1)}) + "\n")


def _write(path: Path, value: Record | Cost) -> None:
    write_text(path, json.dumps(asdict(value), indent=1, ensure_ascii=False) + "\n")
