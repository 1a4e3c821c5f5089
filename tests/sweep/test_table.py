"""The table of a sweep: every cell has a row, a failed one says why, and times are those of the training's own log."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from toolkit.errors import ConfigError
from toolkit.sweep.clock import median_step, step_clock
from toolkit.sweep.record import DONE, FAILED, Cost, Record, read_cost, read_record
from toolkit.sweep.run import check_same
from toolkit.sweep.table import draw_sweep, gather, write_sweep


def log_of(folder: Path, *rows: tuple[str, int, float], tail: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [{"phase": p, "step": n, "seconds": s, "loss": 1.0} for p, n, s in rows]
    lines.insert(1, {"phase": rows[0][0], "step": rows[0][1], "seconds": rows[0][2], "validation": {"loss": 2.0}})
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return folder


def test_a_step_is_timed_between_two_that_follow_each_other(tmp_path: Path) -> None:
    log_of(tmp_path, ("imitation", 1, 9.0), ("imitation", 2, 10.0), ("imitation", 3, 12.0), ("imitation", 4, 15.0))
    assert step_clock(tmp_path) == [(1, 9.0), (2, 10.0), (3, 12.0), (4, 15.0)]
    assert median_step(step_clock(tmp_path)) == 2.0


def test_the_log_of_the_warm_start_and_what_an_interruption_left_do_not_count(tmp_path: Path) -> None:
    warm = [("warm_start", step, 100.0 * step) for step in range(1, 9)]
    log_of(tmp_path, *warm, ("imitation", 1, 1.0), ("imitation", 2, 3.0), ("imitation", 3, 4.0), ("imitation", 2, 3.0))
    assert step_clock(tmp_path) == [(1, 1.0), (2, 3.0), (3, 4.0), (2, 3.0)]
    assert median_step(step_clock(tmp_path)) == 1.5
    # A training that goes on from one of its own phase is told apart by its first step.
    log_of(tmp_path, ("imitation", 1, 50.0), ("imitation", 2, 90.0), ("imitation", 1, 1.0), ("imitation", 2, 2.0))
    assert step_clock(tmp_path) == [(1, 1.0), (2, 2.0)]


def test_a_training_at_work_may_be_half_way_through_a_line(tmp_path: Path) -> None:
    log_of(tmp_path, ("imitation", 1, 1.0), tail='{"phase": "imit')
    assert step_clock(tmp_path) == [(1, 1.0)]
    assert median_step(step_clock(tmp_path)) is None
    assert step_clock(tmp_path / "nowhere") == []


def test_a_sweep_of_failures_has_a_table(tmp_path: Path) -> None:
    Record(["a=1"], FAILED, 90.0, "ValueError: 7 | 8 is no width").write(tmp_path / "bad")
    Cost(steps=5, step_seconds=1.25, memory=2_000_000_000).write(tmp_path / "bad")
    sweep = gather("Sweep: toy", "a toy", tmp_path, ["bad", "later"], {"steps": 5})
    write_sweep(tmp_path, sweep)
    page = (tmp_path / "SWEEP.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| bad"))
    assert row == (
        r"| bad (failed) | – | – | 5 | 1250 | 2000 | 1.5 | failed: ValueError: 7 \| 8 is no width ([log](bad/log)) |"
    )
    assert "| later (not run) |" in page
    values = json.loads((tmp_path / "sweep.json").read_text())
    assert values["cells"]["bad"]["error"] == "ValueError: 7 | 8 is no width"
    assert values["cells"]["later"] == {"state": "not run", "log": "later/log"}
    told = io.StringIO()
    Console(file=told, width=100).print(draw_sweep(tmp_path, sweep))
    assert "bad failed: ValueError: 7 | 8 is no width" in told.getvalue()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SWEEP.md", "bad", "sweep.json"]


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    record, cost = Record(["a=1"], DONE, 1.5), Cost(3, None, None, 7, 1.5)
    record.write(tmp_path)
    cost.write(tmp_path)
    assert (read_record(tmp_path), read_cost(tmp_path)) == (record, cost)
    assert (read_record(tmp_path / "x"), read_cost(tmp_path / "x")) == (None, None)


def test_a_finished_cell_is_never_mixed_with_another_budget(tmp_path: Path) -> None:
    Record(["train.steps=5"], DONE).write(tmp_path / "a")
    Record(["train.steps=5"], FAILED).write(tmp_path / "b")
    check_same({tmp_path / "a": ["train.steps=5"], tmp_path / "b": ["train.steps=6"]})
    with pytest.raises(ConfigError, match=r"train\.steps=5 train\.steps=6"):
        check_same({tmp_path / "a": ["train.steps=6"]})
