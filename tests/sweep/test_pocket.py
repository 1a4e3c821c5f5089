"""egs/mini/sweep.sh with tiny random models: a cell that crashes stands in the table, a stopped sweep goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.stages.hypotheses import read_rows
from toolkit.sweep.command import main

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
about: tiny adapters
shared: train.batch_size=4 decode.systems=[speech]
steps: 3
cells:
  - {name: narrow, overrides: adapter=stack adapter.factor=2 adapter.hidden_dim=16}
  - {name: broken, overrides: adapter=windowed_qformer adapter.hidden_dim=30 adapter.heads=7}
  - {name: wide, overrides: adapter=stack adapter.factor=4 adapter.hidden_dim=32}
  - {name: warm, overrides: adapter=ctc, warm: true}
"""


@pytest.fixture(scope="module")
def command(config_of: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Stage 6 on prepared data; what is to be given before the overrides goes in at index 1."""
    work = tmp_path_factory.mktemp("sweep")
    (work / "toy.yaml").write_text(SWEEP)
    config = config_of(work / "exp")
    overrides = [
        f"data_dir={config.data_dir}", f"encoder.model={config.encoder['model']}",
        f"decoder.model={config.decoder['model']}", "decoder.dtype=fp32", "train.decoder_dtype=fp32",
        "imitate.max_new_tokens=5", "score.bootstrap=20",
    ]  # fmt: skip
    options = ["--stage", "6", "--sweep", f"{work}/toy.yaml", "--exp", f"{work}/exp", "--warm", "none"]
    return [str(ROOT / "egs/mini/sweep.sh"), *options, "--utterances", "0", *overrides]


@pytest.fixture
def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def folder_of(command: list[str]) -> Path:
    return Path(command[command.index("--exp") + 1])


def with_options(command: list[str], *options: str) -> list[str]:
    return [command[0], *options, *command[1:]]


def test_a_stopped_sweep_leaves_a_table_and_an_unfinished_cell(command: list[str], environment: dict[str, str]) -> None:
    toolkit = subprocess.Popen(
        with_options(command, "--only", "narrow"), env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    log = folder_of(command) / "narrow/log"
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(toolkit.pid, signal.SIGTERM)
    said = toolkit.communicate(timeout=60)[1]
    assert toolkit.returncode != 0
    assert "the same command goes on from here" in said
    values = json.loads((folder_of(command) / "sweep.json").read_text())
    assert [cell["state"] for cell in values["cells"].values()] == ["unfinished", "not run", "not run"]


def test_it_goes_on_and_shows_the_cell_that_crashes(command: list[str], environment: dict[str, str]) -> None:
    exp = folder_of(command)
    done = subprocess.run(with_options(command, "--jobs", "2"), env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    values = json.loads((exp / "sweep.json").read_text())["cells"]
    assert {name: cell["state"] for name, cell in values.items()} == {
        "narrow": "done", "broken": "failed", "wide": "done",
    }  # fmt: skip
    assert "warm left out" in done.stderr
    # The crash: its row, why, and where to look.
    assert "adapter.heads 7 does not divide" in values["broken"]["error"]
    assert f"broken failed: {values['broken']['error']}"[:60] in done.stdout
    page = (exp / "SWEEP.md").read_text().splitlines()
    assert next(line for line in page if line.startswith("| broken (failed)")).endswith("([log](broken/log)) |")
    assert "Traceback" in (exp / "broken/log").read_text()
    assert "Traceback" not in done.stderr
    # The others: all columns.
    for name, factor in (("narrow", 2), ("wide", 4)):
        cell = values[name]
        assert (cell["steps"], cell["error"]) == (3, "")
        assert 40 / factor < cell["embeddings_per_second"] < 60 / factor  # of 50 frames a second
        assert 0 < cell["step_seconds"] < cell["seconds"]
        assert 50e6 < cell["memory"] < 50e9
    widths = {"narrow": (32 * 2, 16), "wide": (32 * 4, 32)}
    for name, (stacked, hidden) in widths.items():
        assert values[name]["parameters"] == (stacked + 1) * hidden + (hidden + 1) * 32
        assert len(read_rows(exp / name / "decode/test/speech.jsonl")) == 2 * 12
    row = next(line for line in page if line.startswith("| wide |")).split(" | ")
    assert row.count("–") == 0
    assert not list(exp.rglob("*.tmp"))


def test_a_finished_cell_is_not_run_again(command: list[str], environment: dict[str, str]) -> None:
    exp = folder_of(command)
    before = {path: path.read_bytes() for path in exp.glob("*/*") if path.is_file()}
    again = subprocess.run(
        with_options(command, "--only", "narrow,wide"), env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "2 of 2 cells are done" in again.stderr
    assert "broken (failed)" in again.stdout
    assert {path: path.read_bytes() for path in exp.glob("*/*") if path.is_file()} == before


def test_another_budget_is_refused_in_the_same_folder(command: list[str]) -> None:
    exp, overrides = folder_of(command), [word for word in command if "=" in word]
    with pytest.raises(ConfigError, match=r"narrow is done with other settings"):
        main([str(exp.parent / "toy.yaml"), "--exp", str(exp), "--steps", "4", *overrides], "")
