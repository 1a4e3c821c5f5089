"""Decoding: every system answers every question, interruptions lose nothing, and one recording can be asked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.config import Config
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages import decode, imitate, score, train
from toolkit.stages.answer import answer
from toolkit.stages.hypotheses import other_of, read_rows

ConfigOf = Callable[..., Config]


@pytest.fixture(scope="module")
def trained(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = config_of(tmp_path_factory.mktemp("exp"), "decode.systems=[speech,deaf]", "decode.batch_size=4")
    train.run(config)
    decode.run(config)
    return config


def rows_of(config: Config, system: str) -> list[Any]:
    return read_rows(Path(config.exp_dir) / "decode" / "test" / f"{system}.jsonl")


def test_all_systems_answer_the_same_questions(trained: Config) -> None:
    keys = {
        system: [(r.id, r.task, r.prompt) for r in rows_of(trained, system)]
        for system in ("speech", "deaf", "text", "other")
    }
    assert len(set(map(tuple, keys.values()))) == 1
    assert len(keys["speech"]) == len(set(keys["speech"])) == 2 * 12


def test_the_deaf_control_hears_another_utterance_and_the_topline_is_its_own_reference(trained: Config) -> None:
    assert all(row.heard != row.id for row in rows_of(trained, "deaf"))
    assert all(row.heard == row.id for row in rows_of(trained, "speech"))
    assert all(row.hypothesis == row.reference for row in rows_of(trained, "text") if row.task != "transcribe")
    assert all(row.reference == row.transcript for row in rows_of(trained, "text") if row.task == "transcribe")


def test_an_interrupted_decoding_goes_on_and_a_finished_one_is_not_repeated(
    trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(trained, "speech")
    folder = Path(trained.exp_dir) / "decode" / "test"
    for store in folder.glob("answers-*/store.jsonl"):  # as an interruption in mid-line leaves it
        lines = store.read_text().split("\n")
        store.write_text("\n".join([*lines[:5], lines[5][:20]]))
    asked: list[int] = []
    answer = SpeechLLM.answer

    def count(self: SpeechLLM, rows: Any, *rest: Any) -> Any:
        asked.append(len(rows))
        return answer(self, rows, *rest)

    monkeypatch.setattr(SpeechLLM, "answer", count)
    decode.run(trained)
    assert rows_of(trained, "speech") == before
    questions = {(row.prompt, row.heard) for system in ("speech", "deaf") for row in rows_of(trained, system)}
    assert sum(asked) == len(questions) - 5
    asked.clear()
    decode.run(trained)
    assert asked == []
    assert rows_of(trained, "speech") == before


def test_answers_of_another_checkpoint_are_taken_away(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path, "decode.systems=[speech,deaf]", "train.steps=1")
    train.run(config)
    decode.run(config)
    shutil.rmtree(tmp_path / "checkpoint")
    again = config_of(tmp_path, "decode.systems=[speech]", "train.steps=1", "seed=3", "imitate.tasks_per_cut=1")
    imitate.run(again)
    train.run(again)
    decode.run(again)
    assert not (tmp_path / "decode" / "test" / "deaf.jsonl").exists()


def test_scores_come_with_n_and_intervals(trained: Config) -> None:
    scores = json.loads(score.run(trained).read_text())
    systems = {row["system"] for row in scores["scores"]}
    assert {"speech", "deaf", "text"} <= systems
    assert all("n" in row for row in scores["scores"])


def test_a_recording_of_any_rate_is_answered(trained: Config, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(44100), 44100)
    assert isinstance(answer(Path(trained.exp_dir), path, "Say: {speech}"), str)


def test_an_adapter_of_tokens_says_what_it_heard(
    config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(config_of(tmp_path, "adapter=ctc", "train.steps=1"))
    soundfile.write(tmp_path / "speech.wav", 0.1 * np.random.default_rng(1).standard_normal(16000), 16000)
    capsys.readouterr()
    answer(tmp_path, tmp_path / "speech.wav", "Say: {speech}")
    assert "heard in speech.wav: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "level", "prompt", "message"),
    [
        (1.0, 0.1, "no place", "exactly once"),
        (31.0, 0.1, "{speech}", "31.0 s long"),
        (1.0, 0.0, "{speech}", "silent"),
    ],
)
def test_what_cannot_be_answered_says_why(
    seconds: float, level: float, prompt: str, message: str, trained: Config, tmp_path: Path
) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, level * np.random.default_rng(1).standard_normal(int(16000 * seconds)), 16000)
    with pytest.raises(DataError, match=message):
        answer(Path(trained.exp_dir), path, prompt)


def test_a_missing_recording_or_model_is_named(trained: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        answer(Path(trained.exp_dir), tmp_path / "nowhere.wav", "{speech}")
    with pytest.raises(DataError, match="no trained model"):
        answer(tmp_path, tmp_path / "x.wav", "{speech}")


def test_an_unknown_system_is_refused(config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"speech, deaf, cascade"):
        decode.run(config_of(tmp_path, "decode.systems=[speach]"))


def test_decoding_before_training_says_so(config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Train first"):
        decode.run(config_of(tmp_path))


def test_no_utterance_is_paired_with_itself() -> None:
    pairs = other_of([f"u{i}" for i in range(9)])
    assert all(a != b for a, b in pairs.items())
    assert sorted(pairs.values()) == sorted(pairs)
    assert other_of(["u1"]) == {}
