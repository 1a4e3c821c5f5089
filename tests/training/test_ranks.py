"""Several processes train what one trains: for real, two of them over gloo, DDP and FSDP."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toolkit.config import Config, save_config
from toolkit.data.rank_rows import rows_of_rank
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS
from toolkit.stages import imitate, train
from toolkit.stages.ranks import check_ranks

ConfigOf = Callable[..., Config]

SCRIPT = """
import os, pathlib, signal, sys, time
from toolkit.config import load_config, load_parts
from toolkit.errors import ToolkitError
from toolkit.stages import train
from toolkit.training.module import ImitationModule

path, trouble, at = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rank = os.environ["RANK"]
note = lambda text: (path.parent / f"notes.{rank}").open("a").write(text + "\\n")
step, end, save = ImitationModule.training_step, ImitationModule.on_train_end, train.save_checkpoint

def troubled(self, batches, index):
    if trouble == "forward":
        note(" ".join(f"{self.global_step}:{name}" for batch in batches for name in batch.ids))
    if rank == "1" and self.global_step == at:
        if trouble == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "stuck":
            time.sleep(600)
    return step(self, batches, index)

def ended(self):
    sizes = [p.to_local().numel() if isinstance(p, train.torch.distributed.tensor.DTensor) else p.numel()
             for p in self.model.decoder.lm.base_model.layers.parameters()]
    note(f"holds {sum(sizes)}")
    end(self)

def saved(*arguments):
    note("saves")
    save(*arguments)

ImitationModule.training_step, ImitationModule.on_train_end, train.save_checkpoint = troubled, ended, saved
load_parts()
config = load_config(path)
if trouble == "differ" and rank == "1":
    config.train.learning_rate *= 2
try:
    train.run(config)
except ToolkitError as error:
    sys.exit(f"[{rank}] {type(error).__name__}: {error}")
"""


def start(config: Config, processes: int = 2, trouble: str = "forward", at: int = -1) -> Any:
    """Train by torchrun, in trouble at a step if wanted; notes of each rank are beside the configuration."""
    folder = Path(config.exp_dir).parent
    save_config(config, folder / "config.yaml")
    (folder / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [str(folder / "train.py"), str(folder / "config.yaml"), trouble, str(at)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=300)


def log(exp: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]


def losses(exp: Path) -> list[float]:
    """Return the loss of every step, then those of the development set; steps done again count once."""
    rows = log(exp)
    steps = {row["step"]: row["loss"] for row in rows if "loss" in row}
    looks = {row["step"]: row["validation"]["loss"] for row in rows if "validation" in row}
    return [*steps.values(), *looks.values()]


def same(one: Path, two: Path) -> None:
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    trained, expected = (load_file(exp / "checkpoint" / "trainable.safetensors") for exp in (two, one))
    assert trained.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(trained[name], tensor, atol=1e-5, rtol=1e-5)


def notes(exp: Path, rank: int) -> list[str]:
    path = exp.parent / f"notes.{rank}"
    return path.read_text().splitlines() if path.exists() else []


# Micro-batches of one row, some of text alone, and a prompt that rows open with: ranks have much to differ in.
UNEVEN = (
    "train.steps=7", "train.micro_batch_size=1", "train.speech_share=0.4", "train.text_share=0.4",
    "system='You are a very helpful assistant.'", "train.weight_decay=0.1",
)  # fmt: skip
LORA = ("train.steps=7", "decoder=lora", "decoder.dropout=0", "decoder.rank=2", "train.speech_share=0.5")


@pytest.fixture(scope="module")
def one(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """What one process trains."""
    found: dict[tuple[str, ...], Path] = {}
    for settings in (UNEVEN, LORA):
        exp = found[settings] = tmp_path_factory.mktemp("one") / "exp"
        config = config_of(exp, *settings)
        imitate.run(config)  # the prompt is another
        train.run(config)
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(
    strategy: str, one: dict[tuple[str, ...], Path], config_of: ConfigOf, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "exp", *UNEVEN, f"train.strategy={strategy}")
    done = start(config)
    assert done.returncode == 0, done.stderr[-3000:]
    exp = tmp_path / "exp"
    same(one[UNEVEN], exp)
    # Written once, told once.
    assert [notes(exp, rank).count("saves") for rank in (0, 1)] == [1, 0]
    assert len(re.findall("train: 0.0 M parameters", done.stderr)) == 1
    assert not (exp / "checkpoint/last.ckpt").exists()
    # Nobody has a row twice in a step, and each rank has half of them.
    rows = [[name for line in notes(exp, rank) if ":" in line for name in line.split()] for rank in (0, 1)]
    assert len(rows[0]) == len(rows[1]) == 14
    # The tasks of one utterance may meet, since they are about as long.
    assert max(Counter(rows[0] + rows[1]).values()) <= config.imitate.tasks_per_cut
    layers: Any = DECODERS.build(config.decoder)
    whole = sum(p.numel() for p in layers.lm.base_model.layers.parameters())
    held = [int(line.split()[1]) for rank in (0, 1) for line in notes(exp, rank) if line.startswith("holds")]
    assert held == ([whole, whole] if strategy == "ddp" else [whole // 2, whole // 2])
    told = [["balance" in row for row in log(of) if "loss" in row] for of in (exp, one[UNEVEN])]
    assert told == [[True] * 7, [False] * 7]


@pytest.mark.parametrize(("strategy", "settings", "processes"), [("ddp", UNEVEN, 1), ("fsdp", LORA, 2)])
def test_when_a_process_is_killed_the_rest_end_and_the_training_goes_on_as_if_it_had_not_been(
    strategy: str,
    settings: tuple[str, ...],
    processes: int,
    one: dict[tuple[str, ...], Path],
    config_of: ConfigOf,
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path / "exp", *settings, f"train.strategy={strategy}")
    killed = start(config, trouble="killed", at=5)
    assert killed.returncode != 0
    assert (tmp_path / "exp/checkpoint/last.ckpt").exists()
    assert not (tmp_path / "exp/checkpoint/done").exists()
    # As many processes as there are now; who works together decides nothing.
    on = config if processes == 2 else config_of(tmp_path / "exp", *settings, "train.strategy=auto")
    done = start(on, processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "train: goes on at step 4 of 7" in done.stderr
    same(one[settings], tmp_path / "exp")


def test_nobody_waits_for_long_for_a_process_that_is_stuck(config_of: ConfigOf, tmp_path: Path) -> None:
    # It is stuck for ten minutes, and `start` gives up after five.
    done = start(config_of(tmp_path / "exp", "train.rank_timeout=0.3"), trouble="stuck", at=1)
    assert done.returncode != 0
    assert "[0] RankError: process 0 of 2 waits for another that has ended or is stuck" in done.stderr
    assert "train.rank_timeout" in done.stderr


def test_processes_that_would_not_train_the_same_are_refused(config_of: ConfigOf, tmp_path: Path) -> None:
    done = start(config_of(tmp_path / "exp"), trouble="differ")
    assert done.returncode != 0
    assert re.search(r"RankError: processes differ in the seed and train\.\*: rank 0: \w+; rank 1: \w+\.", done.stderr)
    assert notes(tmp_path / "exp", 0) == notes(tmp_path / "exp", 1) == []


@pytest.mark.parametrize(
    ("processes", "overrides", "message"),
    [
        ((1, 1), ["train.strategy=fdsp"], "train.strategy is one of auto, ddp, fsdp, not 'fdsp'"),
        ((1, 1), ["train.strategy=fsdp"], r"there is one: start several \(torchrun"),
        ((3, 3), [], r"train.batch_size=4 does not divide among 3 processes: say train.batch_size=3 or another multi"),
        ((8, 4), [], r"say train.batch_size=8 or another multiple"),
        ((4, 3), [], "start equally many on every machine"),
        ((2, 2), ["train.strategy=fsdp", "train.compile=true"], r"say train\.compile=false, or train\.strategy=ddp"),
        ((2, 2), ["train.strategy=fsdp", "decoder=lora", "decoder.quantise=nf4"], r"decoder.quantise=nf4\): leave"),
    ],
)
def test_what_processes_cannot_train_is_refused_before_anything_is_loaded(
    processes: tuple[int, int],
    overrides: list[str],
    message: str,
    config_of: ConfigOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(tmp_path, *overrides)
    for name, value in zip(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), processes, strict=True):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match=message):
        check_ranks(config)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_have_every_row_once_and_work_equally_long(world: int) -> None:
    generator = torch.Generator().manual_seed(0)
    costs = (20 + 100 * torch.rand(200, generator=generator)).tolist()
    for step in range(20):
        chosen = sorted(torch.randperm(200, generator=generator)[:24].tolist(), key=lambda i: costs[i])
        ranks = [rows_of_rank(chosen, costs, rank, world) for rank in range(world)]
        assert sorted(row for rows in ranks for row in rows) == sorted(chosen), step
        assert {len(rows) for rows in ranks} == {24 // world}
        assert all(rows == sorted(rows, key=chosen.index) for rows in ranks)
        spent = [sum(costs[row] for row in rows) for rows in ranks]
        in_turn = [sum(costs[row] for row in chosen[rank::world]) for rank in range(world)]
        assert max(spent) <= max(in_turn)
    assert rows_of_rank(chosen, costs, 0, 1) == chosen
    assert sorted(len(rows_of_rank(chosen[:3], costs, rank, 2)) for rank in (0, 1)) == [1, 2]
