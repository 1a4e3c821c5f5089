"""Precision, threads and memory that suit the machine: chosen once, told, and the user's word counts."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from toolkit.config import Config
from toolkit.plan.sizes import model_without_weights
from toolkit.stages import machine, train, trainer
from toolkit.stages.machine import share_threads, training_dtype

ConfigOf = Callable[..., Config]


@pytest.mark.parametrize("fast", ["bf16", "fp32"])
def test_auto_takes_what_is_fast_and_a_training_stays_with_it(
    fast: str, config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, "train.decoder_dtype=auto", "train.steps=2")
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    monkeypatch.setattr(machine, "_seconds", lambda dtype: 1.0 if dtype == dtypes[fast] else 2.0)
    train.run(config)
    rows = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert rows[0]["decoder_dtype"] == fast
    assert rows[1]["loss"] > 0
    assert f"the decoder is in {fast}" in capsys.readouterr().err
    monkeypatch.setattr(machine, "_seconds", lambda dtype: 2.0 if dtype == dtypes[fast] else 1.0)
    assert training_dtype(config, tmp_path / "checkpoint") == fast
    assert sorted(path.name for path in (tmp_path / "checkpoint").glob("decoder_dtype*")) == ["decoder_dtype"]


def test_a_precision_that_is_named_is_not_measured(config_of: ConfigOf, tmp_path: Path) -> None:
    for named in ("", "fp32", "bf16"):
        assert training_dtype(config_of(tmp_path, f"train.decoder_dtype={named}"), tmp_path) == named
    assert not list(tmp_path.iterdir())


def test_both_precisions_can_be_timed_here_and_auto_can_be_planned(config_of: ConfigOf, tmp_path: Path) -> None:
    assert 0 < machine._seconds(torch.float32) < 60
    assert 0 < machine._seconds(torch.bfloat16) < 60
    planned = model_without_weights(config_of(tmp_path, "train.decoder_dtype=auto"))
    assert next(planned.decoder.parameters()).dtype == torch.float32


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("environment", "each", "says"),
    [
        ({}, 3, ""),
        ({"LOCAL_WORLD_SIZE": "4"}, 2, ""),
        ({"LOCAL_WORLD_SIZE": "16"}, 1, ""),
        ({"LOCAL_WORLD_SIZE": "4", "OMP_NUM_THREADS": "3"}, 3, ""),
        ({"LOCAL_WORLD_SIZE": "4", "OMP_NUM_THREADS": "1", "LOCAL_RANK": "0"}, 3, "OMP_NUM_THREADS=2"),
        ({"LOCAL_WORLD_SIZE": "4", "OMP_NUM_THREADS": "1", "LOCAL_RANK": "1"}, 3, ""),
    ],
)
def test_processes_share_the_cores_unless_the_user_says_otherwise(
    environment: dict[str, str],
    each: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    torch.set_num_threads(3)  # as torch found it
    share_threads()
    assert torch.get_num_threads() == each
    assert says in capsys.readouterr().err if says else not capsys.readouterr().err


FAULTS = """
import resource, sys, torch
from toolkit.stages.machine import keep_freed_memory
print(keep_freed_memory())
def once():
    a, b = torch.ones(5 * 2**20), torch.ones(5 * 2**20)  # freed together, 40 MB at the end of the heap
once(), once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""whether memory is kept, and how many pages had to be got anew"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_tensors_unless_the_user_says_otherwise() -> None:
    often = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    others = {name: value for name, value in os.environ.items() if name not in machine._SAID}

    def run(more: dict[str, str]) -> tuple[str, int]:
        command = [sys.executable, "-c", FAULTS]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**others, **more})
        kept, faults = done.stdout.split()
        return kept, int(faults)

    kept, faults = run({})
    given_back, all_faults = run(often)
    assert (kept, given_back) == ("True", "False")
    assert faults * 10 < all_faults


def test_a_training_asks_for_it(config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: asked.append(True))
    train.run(config_of(tmp_path, "train.steps=1"))
    assert asked == [True]
