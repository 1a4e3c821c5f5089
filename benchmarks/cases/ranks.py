"""Two ranks against one, a thread each: `toolkit train` under torchrun with gloo, the same steps, the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.turns import ROOT
from benchmarks.workload import RECIPE, VOXTRAL, Spec

FIGURES = ("ranks_2_vs_1",)
NEAR = 1e-5
"""how near the losses of each step must be, in shares of the loss, both by the same global batch in fp32"""


@dataclass
class Curve:
    """What a training left behind."""

    seconds: float
    """of all steps but the first"""
    losses: list[float]
    weights: dict[str, object]


def command(spec: Spec, exp: Path, ranks: int) -> list[str]:
    """Return the command of a training by `ranks` processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    return [
        sys.executable, *launch, "-m", "toolkit", "train", *RECIPE, *VOXTRAL, f"exp_dir={exp}",
        f"data_dir={spec.data}", f"train.batch_size={spec.batch}", f"train.steps={spec.steps + 1}",
        "train.decoder_dtype=fp32", "train.validate_every=1000000", *spec.overrides,
    ]  # fmt: skip


def train(spec: Spec, ranks: int) -> Curve:
    """Train by so many processes of one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        exp = Path(folder)
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            command(spec, exp, ranks), cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"training by {ranks} ranks ended with status {done.returncode}: {done.stdout[-3000:]}")
        return curve(exp)


def curve(exp: Path) -> Curve:
    """Read what a training left behind."""
    lines = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    return Curve(
        steps[-1]["seconds"] - steps[0]["seconds"],
        [line["loss"] for line in steps],
        dict(load_file(exp / "checkpoint" / "trainable.safetensors")),
    )


def apart(one: Curve, two: Curve) -> tuple[float, float]:
    """Return the largest difference of two loss curves, in shares of the loss, and of weights, of the largest one."""
    losses = max(abs(a - b) / abs(a) for a, b in zip(one.losses, two.losses, strict=True))
    weights = max(
        float((a - two.weights[name]).abs().max() / a.abs().max())  # type: ignore[attr-defined, operator]
        for name, a in one.weights.items()
    )
    return losses, weights


def run(options: Options) -> list[Figure]:
    """Measure."""
    spec = options.spec()
    values, worst = [], (0.0, 0.0)
    for repeat in range(options.repeats):
        order = (1, 2) if repeat % 2 == 0 else (2, 1)
        took = {ranks: train(spec, ranks) for ranks in order}
        values.append(took[1].seconds / took[2].seconds)
        losses, weights = apart(took[1], took[2])
        worst = max(worst[0], losses), max(worst[1], weights)
        options.say(
            f"  repeat {repeat + 1}: one rank {took[1].seconds:.1f} s, two {took[2].seconds:.1f} s, "
            f"{values[-1]:.2f} times; losses apart by {losses:.1e} of themselves, weights by {weights:.1e}"
        )
    return [
        Figure(
            "ranks_2_vs_1",
            "time of the steps of one rank with one thread, by that of two such ranks at the same global batch",
            values,
            goal=1.7,
            equal=worst[0] <= NEAR,
            notes=[
                f"{spec.steps} steps of {spec.batch} rows in fp32, gloo, by torchrun; the first step is not counted",
                f"the loss curves are apart by {worst[0]:.1e} of the loss at the most, trained weights by "
                f"{worst[1]:.1e} of the largest",
                "rounding grows from step to step: one rank that divides the same rows into other passes parts from "
                "itself in the same way",
            ],
        )
    ]
