"""The steps of a training and their times, from its log: while it is at work, and when it is done."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path

from toolkit.scoring.curves import LOG


def step_clock(exp_dir: Path) -> list[tuple[int, float]]:
    """Read the steps of an experiment's training and when each was done, in seconds of training time.

    A log begins with that of what the training starts from; only what follows is read. The last line of a training
    that is at work may be half written, and is passed over.
    """
    log = exp_dir / LOG
    lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.is_file() else []
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    begin = max((number for number, row in enumerate(rows) if row["step"] == 1), default=0)
    return [(row["step"], row["seconds"]) for row in rows[begin:] if row["phase"] == rows[-1]["phase"]]


def median_step(clock: list[tuple[int, float]]) -> float | None:
    """Return the median seconds from one step to the next; None where there are not two that follow each other."""
    pairs = pairwise(clock)
    # An interrupted training takes some steps twice: from the last one back to the first of those is no time.
    times = [now - before for (earlier, before), (later, now) in pairs if later == earlier + 1]
    return statistics.median(times) if times else None
