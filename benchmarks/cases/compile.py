"""`train.compile`: how long compiling takes, how much faster a step is, and how many steps pay for it."""

from __future__ import annotations

import math
import statistics
import tempfile
from dataclasses import dataclass, replace

from benchmarks.options import Options
from benchmarks.results import Figure, number
from benchmarks.turns import take
from benchmarks.workload import BF16, FP32, Spec

FIGURES = ("compile_seconds", "compile_speedup", "compile_break_even_steps")
STEPS = 10
"""of each side, in turns"""
APART = 1e-3
"""by how much of their norm gradients in fp32 may be apart"""


@dataclass
class Found:
    """What one process has found in one precision."""

    seconds: float
    """of compiling, more than a step takes: where torch had compiled nothing of it before"""
    again: float
    """the same in the next process, which finds the programs on the disk"""
    plain: float
    """seconds of a step"""
    compiled: float
    apart: float
    """distance of the gradients, by their norm"""

    @property
    def steps(self) -> float:
        """Return how many steps pay for compiling; infinitely many where none is faster."""
        saved = self.plain - self.compiled
        return self.seconds / saved if saved > 0 else math.inf


def run(options: Options) -> list[Figure]:
    """Measure, in the precision in which a step is faster here; the other is in the notes."""
    steps = 2 if options.quick else STEPS
    spec = Spec("-", batch=options.batch, steps=steps, overrides=options.overrides)
    found: dict[str, list[Found]] = {FP32: [], BF16: []}
    for repeat in range(options.repeats):
        for mode, each in found.items():
            each.append(_measure(replace(spec, mode=mode)))
            options.say(f"  repeat {repeat + 1}, {mode}: {_told(each[-1:])}")
    best = min(found, key=lambda mode: statistics.median(one.plain for one in found[mode]))
    chosen = found[best]
    notes = [f"{mode}: {_told(each)}" for mode, each in found.items()]
    return [
        Figure("compile_seconds", f"compiling, nothing of it on the disk ({best})", [one.seconds for one in chosen],
               unit="s", better="lower", notes=notes),
        Figure("compile_speedup", f"time of a step of the LLM, by that with norms and MLPs compiled ({best})",
               [one.plain / one.compiled for one in chosen], equal=all(one.apart < APART for one in found[FP32])),
        Figure("compile_break_even_steps", f"steps that pay for compiling; `inf` where none is faster ({best})",
               [one.steps for one in chosen], unit="steps", better="lower"),
    ]  # fmt: skip


def _measure(spec: Spec) -> Found:
    with tempfile.TemporaryDirectory() as cache:
        extra, again = (take("compiled", replace(spec, cache=cache, steps=n)).extra for n in (spec.steps, 1))
    plain, compiled = (statistics.median(extra[side]) for side in ("plain", "compiled"))
    return Found(extra["first"] - compiled, again["first"] - compiled, plain, compiled, extra["apart"])


def _told(each: list[Found]) -> str:
    middle = {
        name: number(statistics.median(getattr(one, name) for one in each))
        for name in ("seconds", "again", "plain", "compiled", "steps", "apart")
    }
    return (
        "compiling takes {seconds} s, {again} s once the programs are on the disk; a step {plain} s, compiled "
        "{compiled} s, so that {steps} steps pay for it; gradients are apart by {apart} of their norm"
    ).format(**middle)
