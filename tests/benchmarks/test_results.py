"""The files that the runner writes, and how it is told what to run."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.cases.growth import slope
from benchmarks.results import Figure, about, keep, number
from benchmarks.run import CASES, chosen, main
from benchmarks.turns import MEGABYTE, Steps, Turn, alternate, ratios
from benchmarks.workload import Spec
from toolkit.errors import UnknownNameError

ROOT = Path(__file__).resolve().parents[2]
ISSUE = {
    "train_vs_usual", "train_vs_peer", "train_vs_limit", "generate_vs_one_by_one", "imitate_vs_one_by_one",
    "ranks_2_vs_1", "memory_vs_usual",
}  # fmt: skip


def test_the_cases_have_all_figures_once() -> None:
    figures = [name for place in CASES.values() for name in import_module(place).FIGURES]
    assert set(figures) >= ISSUE
    assert len(figures) == len(set(figures))


def test_results_hold_medians_and_spreads_under_their_names(tmp_path: Path) -> None:
    made_with = about(2, {"repeats": 3})
    keep([Figure("train_vs_usual", "ours by theirs", [4.0, 6.0, 5.0], goal=4.0, equal=True)], made_with, tmp_path)
    keep([Figure("memory_vs_usual", "ours by theirs", [0.5], better="lower", goal=0.5)], made_with, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"train_vs_usual", "memory_vs_usual"}
    row = results["train_vs_usual"]
    assert (row["median"], row["low"], row["high"], row["values"]) == (5.0, 4.0, 6.0, [4.0, 6.0, 5.0])
    assert {"cpu", "cores", "memory_gb"} <= set(row["about"]["machine"])
    assert {"torch", "transformers", "python"} <= set(row["about"]["versions"])
    assert "commit" in row["about"]
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| `train_vs_usual` | 5 times | 4 to 6 | ≥ 4 | 3 | hold | ours by theirs |" in page
    assert "| `memory_vs_usual` | 0.5 times | 0.5 to 0.5 | ≤ 0.5 | 1 |  | ours by theirs |" in page


def test_the_page_is_in_one_order_whether_just_measured_or_read_again(tmp_path: Path) -> None:
    made_with = about(1, {"repeats": 3, "batch": 16})
    keep([Figure("one", "ours by theirs", [1.0]), Figure("another", "ours by theirs", [1.0])], made_with, tmp_path)
    measured = (tmp_path / "RESULTS.md").read_text()
    keep([], {}, tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == measured


def test_a_figure_that_is_measured_again_takes_the_place_of_the_old(tmp_path: Path) -> None:
    figure = Figure("ranks_2_vs_1", "one by two", [1.0], equal=False, notes=["a note"])
    keep([figure], about(1, {}), tmp_path)
    assert "**broken**" in (tmp_path / "RESULTS.md").read_text()
    results = keep([replace(figure, values=[1.8], equal=True)], about(1, {}), tmp_path)
    assert results["ranks_2_vs_1"]["median"] == 1.8
    page = (tmp_path / "RESULTS.md").read_text()
    assert "broken" not in page
    assert "* a note" in page


def test_sides_alternate() -> None:
    order: list[str] = []

    def turn(side: str, spec: Spec) -> Turn:
        order.append(side)
        return Turn(seconds={"a": 1.0, "b": 4.0}[side], cpu=1.0, utterances=8)

    turns = alternate(dict.fromkeys("ab", Spec("-")), 3, lambda line: None, turn)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert ratios(turns, "a", "b", lambda turn: turn.speed) == [4.0, 4.0, 4.0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_weights_in_mapped_files_are_there_before_the_first_step(tmp_path: Path) -> None:
    size, file = 64 * MEGABYTE, tmp_path / "weights"
    file.write_bytes(bytes(size))
    model = torch.nn.Linear(1, 1)
    model.weight.data = torch.from_file(str(file), shared=True, size=size // 4)
    steps = [Steps(), Steps()]
    steps[0].begin(torch.nn.Linear(1, 1))
    steps[1].begin(model)
    assert steps[1].before - steps[0].before == pytest.approx(size, rel=0.1)


def test_cases_are_chosen_by_their_name_or_that_of_a_figure() -> None:
    figures = {"usual": ("train_vs_usual", "memory_vs_usual"), "peer": ("train_vs_peer",), "growth": ("growth_x",)}
    assert chosen([], figures) == ["usual", "peer", "growth"]
    assert chosen(["memory_vs_usual", "growth"], figures) == ["usual", "growth"]
    with pytest.raises(UnknownNameError, match="train_vs_peer"):
        chosen(["train_vs_pear"], figures)


def test_the_slope_of_a_power_is_its_exponent() -> None:
    assert slope([1, 4, 16], [3, 24, 192]) == pytest.approx(1.5)
    assert slope([8, 32, 128], [5, 5, 5]) == pytest.approx(0)


def test_numbers_have_three_figures() -> None:
    assert [number(x) for x in (4.123, 0.05678, 12345.6, 0.00001, 0)] == ["4.12", "0.0568", "12,346", "1.0e-05", "0"]


def test_the_runner_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--data", str(tmp_path), "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]
    assert main(["--only", "train_vs_usual", *places]) == 2
    assert "egs/mini/run.sh --stop-stage 4" in capsys.readouterr().err


def test_scripts_are_run_from_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/run.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train_vs_usual" in done.stdout


def test_no_script_hides_a_module_of_the_standard_library() -> None:
    # The folder of a script comes first on Python's path: `profile.py` there would break cProfile, and so torch.
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert not names & sys.stdlib_module_names
