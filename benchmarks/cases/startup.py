"""What is not the step: how long commands take to begin, waiting for data, padding."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.turns import ROOT, take
from benchmarks.workload import BF16, RECIPE, VOXTRAL, Spec, config_of
from toolkit.plan.batches import plan_batches

FIGURES = ("toolkit_list_seconds", "first_step_seconds", "waiting_share", "padding_share")
POLL = 0.02
"""seconds between two looks at the log"""
LIKE_LIBRISPEECH = 6000
"""made-up utterances whose batches are planned"""


def run(options: Options) -> list[Figure]:
    """Measure."""
    spec, best = options.spec(), options.best("ours")
    listing, first, waiting, padding = [], [], [], []
    for repeat in range(options.repeats):
        listing.append(_listing())
        first.append(_first_step(spec))
        turn = take("ours", best)
        waiting.append(turn.extra["outside"])
        padding.append(turn.extra["padding"])
        options.say(
            f"  repeat {repeat + 1}: list {listing[-1]:.2f} s, first step after {first[-1]:.1f} s, outside the step "
            f"{100 * waiting[-1]:.2f} % of the time, padding {100 * padding[-1]:.1f} %"
        )
    planned = plan_batches(config_of(best), ranks=1, workers=0, epochs=1, like_librispeech=LIKE_LIBRISPEECH).padding
    notes = (
        f"{LIKE_LIBRISPEECH} made-up utterances as long as LibriSpeech's, planned (`toolkit plan batches`), not run",
        f"the {options.utterances} utterances of egs/mini that the other figures are of: {100 * padding[-1]:.1f} %",
    )
    return [
        _lower("toolkit_list_seconds", "`toolkit list`, from the shell and back", listing, "s", 0.5),
        _lower("first_step_seconds", "from `toolkit train` to the end of its first step, caches warm", first, "s", 15),
        _lower("waiting_share", "time between steps (waiting for data, Lightning), by all", waiting, "of 1", 0.02),
        _lower("padding_share", "padding, by all positions that the LLM is run on", [planned], "of 1", 0.03, *notes),
    ]


def _lower(name: str, what: str, values: list[float], unit: str, goal: float, *notes: str) -> Figure:
    return Figure(name, what, values, unit, better="lower", goal=goal, notes=list(notes))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _listing() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "toolkit", "list"], env=_environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _first_step(spec: Spec) -> float:
    """Return the seconds until the log has its first line; the training is ended then."""
    with tempfile.TemporaryDirectory() as exp:
        log = Path(exp) / "train_log.jsonl"
        command = [
            sys.executable, "-m", "toolkit", "train", *RECIPE, *VOXTRAL, f"exp_dir={exp}", f"data_dir={spec.data}",
            f"train.batch_size={spec.batch}", "train.steps=2", f"train.decoder_dtype={BF16}",
            "train.validate_every=1000000", *spec.overrides,
        ]  # fmt: skip
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (log.exists() and log.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"`toolkit train` ended with status {process.returncode} before its first step")
            time.sleep(POLL)
        took = time.perf_counter() - begun
        process.wait()
        return took
