"""Sides that take turns, each in a process of its own, so that memory and warm caches of one are none of another's.

A side is a module of `benchmarks.sides` with `run(spec) -> Turn`. Repeats alternate who begins. Each turn leaves its
first step out of the time: it is the one that makes the kernels.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch.nn import Module

from benchmarks.workload import Spec, offline

ROOT = Path(__file__).resolve().parents[1]
MARK = "TURN "
MEGABYTE = 2**20


@dataclass
class Turn:
    """What one turn of a side took."""

    seconds: float
    """of the timed steps"""
    cpu: float
    """seconds of the processors in them"""
    utterances: int
    """rows trained in them"""
    losses: list[float] = field(default_factory=list)
    """of every step, the first included: nats a supervised token"""
    before: int = 0
    """bytes of the process when the first step began: models, data"""
    most: int = 0
    """bytes of the process, at the most, in the steps"""
    peak: int = 0
    """bytes of the process at the most, loading included (ru_maxrss)"""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Return rows a second."""
        return self.utterances / self.seconds


class Steps:
    """The clock and the memory of the steps of one turn."""

    def __init__(self) -> None:
        self.before = 0
        self._marks: list[tuple[float, float, int]] = []
        self.losses: list[float] = []

    def begin(self, model: Module) -> None:
        """Say that the first step begins.

        Weights lie in mapped files, of which Linux counts the pages that were read: all are read now, or the first step
        would seem to take the memory of the LLM's vocabulary.
        """
        for weight in model.parameters():
            weight.detach().sum()
        self.before = _status("VmRSS")
        _forget_peak()

    def end(self, utterances: int, loss: float) -> None:
        """Say that a step of so many rows is over."""
        self._marks.append((time.perf_counter(), time.process_time(), utterances))
        self.losses.append(loss)

    def turn(self, **extra: Any) -> Turn:
        """Return what the steps after the first took."""
        (begun, spent, _), (ended, spent_then, _) = self._marks[0], self._marks[-1]
        rows = sum(count for _, _, count in self._marks[1:])
        peak = peak_of_this_process()
        return Turn(
            ended - begun, spent_then - spent, rows, self.losses, self.before, _status("VmHWM") or peak, peak, extra
        )


def take(side: str, spec: Spec) -> Turn:
    """Let a side take its turn in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.turns", side, json.dumps(asdict(spec))]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stdout=subprocess.PIPE, text=True
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        raise RuntimeError(f"the turn of '{side}' ended with status {done.returncode}: {done.stdout[-2000:]}")
    return Turn(**json.loads(found[-1].removeprefix(MARK)))


def alternate(
    sides: Mapping[str, Spec], repeats: int, say: Callable[[str], None], take: Callable[[str, Spec], Turn] = take
) -> dict[str, list[Turn]]:
    """Let all sides take `repeats` turns, in an order that turns round from repeat to repeat."""
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    for repeat in range(repeats):
        order = list(sides) if repeat % 2 == 0 else list(sides)[::-1]
        for side in order:
            turn = take(side, sides[side])
            turns[side].append(turn)
            say(
                f"  repeat {repeat + 1}, {side} ({sides[side].mode}): {turn.utterances} rows in {turn.seconds:.1f} s "
                f"({turn.speed:.2f} a second; {turn.cpu:.1f} s of processors), {turn.most / MEGABYTE:.0f} MB"
            )
    return turns


def fastest(side: str, spec: Spec, modes: Seq[str], say: Callable[[str], None]) -> Spec:
    """Return the spec in the precision in which a side is fastest, found by a step in each."""
    found = {mode: take(side, replace(spec, mode=mode, steps=1)).speed for mode in modes}
    best = max(found, key=lambda mode: found[mode])
    say(f"  {side}: {best} is fastest ({', '.join(f'{m} {s:.2f}' for m, s in found.items())} rows a second)")
    return replace(spec, mode=best)


def ratios(turns: Mapping[str, Seq[Turn]], ours: str, theirs: str, of: Callable[[Turn], float]) -> list[float]:
    """Return `of` our side divided by that of the other, repeat by repeat."""
    return [of(a) / of(b) for a, b in zip(turns[ours], turns[theirs], strict=True)]


def processor(turns: Mapping[str, Seq[Turn]], ours: str, theirs: str) -> str:
    """Tell how many times as many rows ours does in a second of the processors: busy machines change that less."""
    found = ratios(turns, ours, theirs, lambda turn: turn.utterances / turn.cpu)
    return f"rows of a processor's second: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) times"


def summary(turns: Mapping[str, Seq[Turn]], specs: Mapping[str, Spec]) -> list[str]:
    """Tell of each side in a line."""
    return [
        f"{side} ({specs[side].mode}): {statistics.median(turn.speed for turn in each):.2f} rows a second, of a "
        f"processor's second {statistics.median(turn.utterances / turn.cpu for turn in each):.2f}; at most "
        f"{max(turn.most for turn in each) / MEGABYTE:.0f} MB in the steps, "
        f"{statistics.median(turn.before for turn in each) / MEGABYTE:.0f} MB before them"
        for side, each in turns.items()
    ]


def peak_of_this_process() -> int:
    """Return the most bytes that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    """Return a size in bytes from /proc, 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 if found else 0


def _forget_peak() -> None:
    """Let VmHWM begin anew, where Linux lets us: loading a model may take more than its steps do."""
    path = Path("/proc/self/clear_refs")
    if path.exists() and os.access(path, os.W_OK):
        path.write_text("5")


def main() -> int:
    """Take one turn, as `take` has asked."""
    offline()
    side, values = sys.argv[1], json.loads(sys.argv[2])
    spec = Spec(**{**values, "overrides": tuple(values["overrides"])})
    turn: Turn = import_module(f"benchmarks.sides.{side}").run(spec)
    print(MARK + json.dumps(asdict(turn)), flush=True)
    return 0


if __name__ == "__main__":
    # `python -m` runs this as __main__, and the sides import it by its name: theirs is the class that is returned.
    sys.exit(import_module("benchmarks.turns").main())
