"""Where the time of a training step goes: torch's profiler around one step of the train stage -> PROFILE.md.

    python benchmarks/profiling.py [--data DIR] [--mode fp32|bf16]

Not called `profile`: a script's own folder comes first on Python's path, and the standard library has that name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.options import Options
from benchmarks.results import HERE, Figure, machine
from benchmarks.sides.ours import watching
from benchmarks.workload import FP32, Spec, config_of, offline
from toolkit.stages import train
from toolkit.training.module import ImitationModule

FIGURES = ("profile_matrix_share",)
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn", "aten::linear", "aten::matmul"),
    "attention": ("attention", "softmax"),
    "copies, casts and layout": ("copy_", "aten::to", "contiguous", "aten::cat", "aten::index", "clone", "aten::fill_"),
    "element by element": ("mul", "add", "silu", "gelu", "neg", "rsqrt", "pow", "mean", "sum", "div", "sub", "sigmoid"),
}
"""kind of work -> what stands in the names of its operators; the first that fits"""
SHOWN = 15


def profiled(spec: Spec) -> Any:
    """Train, and profile the last step; returns the operators with their own time."""
    step = ImitationModule.training_step
    with tempfile.TemporaryDirectory() as exp, watching() as watch:
        watched: Callable[..., None] = ImitationModule.training_step
        found: list[Any] = []

        def last(module: ImitationModule, batches: Any, index: int) -> None:
            if len(watch.steps.losses) < spec.steps:
                return watched(module, batches, index)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
                watched(module, batches, index)
            found.append(profiler.key_averages())
            return None

        ImitationModule.training_step = last  # type: ignore[method-assign, assignment]
        try:
            train.run(config_of(spec, exp))
        finally:
            ImitationModule.training_step = step  # type: ignore[method-assign]
    return found[0]


def kind_of(operator: str) -> str:
    """Return what kind of work an operator is."""
    return next((kind for kind, names in KINDS.items() if any(name in operator for name in names)), "the rest")


def page(operators: Any, spec: Spec) -> tuple[str, dict[str, float]]:
    """Return the page, and the share of each kind of work in the time of the processors."""
    rows = sorted(((e.key, e.self_cpu_time_total / 1e3, e.count) for e in operators), key=lambda row: -row[1])
    total = sum(time for _, time, _ in rows)
    kinds: dict[str, float] = {}
    for name, time, _ in rows:
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + time / total
    m = machine()
    lines = [
        "# Where the time of a training step goes",
        "",
        f"{spec.batch} rows in {spec.mode} under torch's profiler, by `python benchmarks/profiling.py`; "
        f"{m['cpu']}, {torch.get_num_threads()} threads, torch {torch.__version__}. It slows small operators.",
        "",
        "| kind of work | share |",
        "|---|--:|",
        *[f"| {kind} | {100 * share:.1f} % |" for kind, share in sorted(kinds.items(), key=lambda item: -item[1])],
        "",
        "| operator | own time | share | calls |",
        "|---|--:|--:|--:|",
        *[f"| `{name}` | {time:.1f} ms | {100 * time / total:.1f} % | {n} |" for name, time, n in rows[:SHOWN]],
    ]
    return "\n".join(lines) + "\n", kinds


def run(options: Options) -> list[Figure]:
    """Profile the side of ours in its best precision; as a case of the runner."""
    return [_write(options.best("ours"), options.out)]


def _write(spec: Spec, out: Path) -> Figure:
    text, kinds = page(profiled(spec), spec)
    (out / "PROFILE.md").write_text(text, encoding="utf-8")
    return Figure(
        "profile_matrix_share",
        "time in matrix products, by all time of the processors in a step (profiled)",
        [kinds.get("matrix products", 0.0)],
        unit="of 1",
        notes=[", ".join(f"{kind} {100 * share:.0f} %" for kind, share in kinds.items())],
    )


def main() -> int:
    """Profile from the shell."""
    offline()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / "egs/mini")
    parser.add_argument("--mode", default="bf16", choices=("bf16", FP32))
    given = parser.parse_args()
    options = Options(given.data / "data", HERE / "work", HERE)
    _write(replace(options.spec(), mode=given.mode, steps=3), HERE)
    print((HERE / "PROFILE.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
