"""`toolkit table` on a table of tiny real models: stopped, gone on with, a crash shown, made again from its answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.errors import ConfigError
from toolkit.tables.command import main
from toolkit.tables.compare import main as compare

TABLE = """
about: tiny systems
shared: >-
  train.batch_size=4 decode.systems=[speech,deaf] prepare.format=jsonl prepare.corpus=corpus align.source=given
  prepare.splits={{train:train,dev:dev,test:test}} encoder.window=true_length encoder.model={whisper}
  decoder.model={llm} decoder.dtype=fp32 train.decoder_dtype=fp32 imitate.max_new_tokens=5 score.bootstrap=50
  train.validate_every=2 score.examples=1
steps: 3
warm_start: {{steps: 2, overrides: adapter.hidden_dim=32 adapter.layers=1 adapter.heads=4}}
plots: {{share: share of the hours}}
rows:
  - name: asr
    about: transcription
    recipe: asr
    seeds: [1, 2]
    overrides: adapter.hidden_dim=32 adapter.layers=1 adapter.heads=4
    plot: {{share: 1}}
    published: [{{value: not public, note: none is}}]
  - name: blsp
    recipe: blsp
    seeds: [1, 2]
    overrides: adapter.hidden_dim=32 adapter.layers=1 adapter.heads=4
    plot: {{share: 2}}
  - name: broken
    recipe: asr
    warm: false
    overrides: adapter=windowed_qformer adapter.hidden_dim=30 adapter.heads=7
claims:
  - {{chain: blsp > asr, figures: [wer.seen_wording]}}
  - {{chain: broken > asr, figures: [wer.seen_wording]}}
"""
PAGES = ("RESULTS.md", "results.json", "plots/rows.svg", "plots/share.svg")


@pytest.fixture(scope="module")
def folder(noise_corpus: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("egs") / "toy"
    work.mkdir()
    shutil.copytree(noise_corpus, work / "corpus")
    (work / "table.yaml").write_text(TABLE.format(whisper=tiny_whisper, llm=tiny_llm))
    return work


def toolkit(*words: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit", *map(str, words)], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def states(folder: Path) -> dict[str, list[str]]:
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return {row["name"]: [cell["state"] for cell in row["cells"]] for row in rows}


def test_a_dry_run_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(folder.rglob("*"))
    assert main([str(folder), "--dry-run", "--only", "asr"], "") == 0
    told = capsys.readouterr().out
    assert "asr.2" in told
    assert "missing, not asked for" in told
    assert set(folder.rglob("*")) == before


def test_a_stopped_table_leaves_a_page(folder: Path) -> None:
    run = toolkit("table", folder, "--only", "asr", "--seeds", "1")
    deadline = time.monotonic() + 120
    while not (folder / "exp/table/warm_start.1/log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGTERM)
    said = run.communicate(timeout=60)[1]
    assert run.returncode != 0
    assert "the same command goes on from here" in said
    assert states(folder) == {"asr": ["not run", "not run"], "blsp": ["not run", "not run"], "broken": ["not run"]}
    page = (folder / "RESULTS.md").read_text()
    assert r"blsp \> asr on WER, seen wordings: **cannot be said**: blsp has no answers." in page
    assert not list(folder.glob("answers/*"))


def test_it_goes_on_and_shows_what_crashes(folder: Path) -> None:
    run = toolkit("table", folder, "--jobs", "2")
    told, said = run.communicate(timeout=600)
    assert run.returncode == 1, said
    assert states(folder) == {"asr": ["done", "done"], "blsp": ["done", "done"], "broken": ["failed"]}
    values = json.loads((folder / "results.json").read_text())
    (crash,) = next(row for row in values["rows"] if row["name"] == "broken")["cells"]
    assert "adapter.heads 7 does not divide" in crash["trouble"]
    page = (folder / "RESULTS.md").read_text()
    assert "1 failed: " in next(line for line in page.splitlines() if line.startswith("| broken "))
    assert r"broken \> asr on WER, seen wordings: **cannot be said**: broken has no answers" in page
    asr = next(line for line in page.splitlines() if line.startswith("| asr "))
    assert " to " in asr  # the lowest and the highest seed
    assert asr.endswith("| 1, 2 | not public (1) |")
    assert "1. asr: none is" in page
    # What made it: seeds, versions, data, hours, machine; and where none of it stood.
    made = [cell["made"] for row in values["rows"] for cell in row["cells"] if cell["made"]]
    assert {each["seed"] for each in made} == {1, 2}
    assert len({each["data"] for each in made}) == 1
    assert all(each["seconds"] > each["times"]["train"] > 0 for each in made)
    assert all(each["cost"]["steps"] == 3 for each in made)
    trained = sum(each["times"]["train"] for each in made if each["row"] == "asr")
    assert values["hours"]["asr"]["hours of training"] == pytest.approx(trained / 3600, abs=5.1e-6)
    assert values["command"] == "toolkit table toy"
    # One warm start a seed, trained once: both rows go on from its log.
    for seed in (1, 2):
        warm = (folder / f"exp/table/warm_start.{seed}/train_log.jsonl").read_text()
        assert all(
            (folder / f"exp/table/{row}.{seed}/train_log.jsonl").read_text().startswith(warm) for row in ("asr", "blsp")
        )
    assert not list(folder.rglob("*.tmp"))
    assert "blsp" in told


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "exp").rglob("*") if path.is_file()}
    assert main([str(folder), "--only", "asr,blsp"], "") == 0
    assert {path: path.read_bytes() for path in (folder / "exp").rglob("*") if path.is_file()} == before


def test_the_page_is_made_again_from_the_answers_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fresh clone: no experiments, no data, no corpus. What crashed left no answers, and is simply not there.
    clone = tmp_path / "toy"
    shutil.copytree(folder, clone, ignore=shutil.ignore_patterns("exp", "data", "corpus", "RESULTS.md", "plots"))
    assert main([str(folder), "--rescore", "--exp", str(tmp_path / "nowhere")], "") == 1  # broken is not there
    monkeypatch.chdir(tmp_path)  # named from where one stands, too
    assert main(["toy", "--rescore", "--only", "asr,blsp"], "") == 0
    assert states(clone)["broken"] == ["not run"]
    for page in PAGES:
        assert (clone / page).read_bytes() == (folder / page).read_bytes(), page
    assert not (clone / "exp").exists()


def test_answers_are_kept_once_and_small(folder: Path) -> None:
    answers = folder / "answers"
    assert sorted(path.name for path in answers.glob("*.gz")) == ["other.jsonl.gz", "text.jsonl.gz"]
    assert sorted(path.name for path in (answers / "blsp.2").iterdir()) == [
        "deaf.jsonl.gz", "made.json", "speech.jsonl.gz",
    ]  # fmt: skip


def test_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"answers/asr.1 holds answers of other settings \(train.batch_size=2\)"):
        main([str(folder), "--rescore", "train.batch_size=2"], "")


def test_rows_and_experiments_are_compared(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert (
        compare([str(folder / "answers/blsp"), str(folder / "answers/asr"), "--resamples", "50", "--out", str(out)], "")
        == 0
    )
    rows = json.loads(out.read_text())
    assert (rows["first"], rows["second"], rows["seeds"]) == ("blsp", "asr", "seeds 1, 2")
    experiments = [str(folder / "exp/table" / name) for name in ("blsp.1", "asr.1")]
    assert compare([*experiments, "--resamples", "50"], "") == 0
    assert "better" in capsys.readouterr().out
    values = json.loads((folder / "results.json").read_text())["tables"][0]["rows"]
    shown = {name: cells[0]["value"] for name, cells in values}
    wer = next(each for each in rows["figures"] if each["figure"].startswith("WER, seen"))
    assert (round(wer["first"], 1), round(wer["second"], 1)) == (shown["blsp"], shown["asr"])
