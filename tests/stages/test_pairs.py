"""A task about two utterances goes through all stages, and a trained model is asked about several files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.cli import main
from toolkit.config import Config
from toolkit.errors import DataError
from toolkit.stages import decode, imitate, score, train
from toolkit.stages.answer import answer
from toolkit.stages.hypotheses import other_of, read_rows

ROOT = Path(__file__).resolve().parents[2]
ConfigOf = Callable[..., Config]


@pytest.fixture(scope="module")
def trained(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The task of the page, beside transcription and replies."""
    tasks, exp = tmp_path_factory.mktemp("tasks"), tmp_path_factory.mktemp("exp")
    (task,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/conversations.md").read_text(), re.DOTALL)
    (tasks / "bridge.yaml").write_text(task)
    for name in ("transcribe", "reply"):
        (tasks / f"{name}.yaml").write_text((ROOT / f"recipes/tasks/{name}.yaml").read_text())
    more = [f"imitate.tasks={tasks}", "imitate.tasks_per_cut=3", "imitate.test_utterances=2", "train.batch_size=8"]
    config = config_of(exp, *more, "decode.systems=[speech,deaf]", "decode.batch_size=4")
    imitate.run(config)
    train.run(config)
    decode.run(config)
    return config


def rows_of(config: Config, system: str) -> list[Any]:
    return read_rows(Path(config.exp_dir) / "decode" / "test" / f"{system}.jsonl")


def test_every_system_answers_about_the_same_pairs(trained: Config) -> None:
    examples = imitate.split_examples(trained, "test")
    for system in ("speech", "deaf", "text", "other"):
        rows = [row for row in rows_of(trained, system) if row.task == "bridge"]
        assert len(rows) == 2 * len(examples)
        for row in rows:
            (other,) = row.others
            assert other in examples
            assert other != row.id
            assert row.transcript == f"{examples[row.id].transcript} | {examples[other].transcript}"
    assert all(row.hypothesis == row.reference for row in rows_of(trained, "text") if row.task == "bridge")


def test_rows_about_one_utterance_are_written_as_ever(trained: Config) -> None:
    path = Path(trained.exp_dir) / "decode" / "test" / "speech.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["task"] for row in rows if "others" in row} == {"bridge"}
    assert {row["task"] for row in rows if "others" not in row} == {"transcribe", "reply"}


def test_answers_are_kept_with_both_texts(trained: Config) -> None:
    rows = [row for row in rows_of(trained, "text") if row.task == "bridge"]
    kept = [
        json.loads(line)
        for store in (Path(trained.data_dir) / "test" / "answers").glob("*/store.jsonl")
        for line in store.read_text().split("\n")[:-1]
    ]
    pairs = {(row["prompt"], row["text"], *row.get("others", [])): row["answer"] for row in kept}
    for row in rows:
        assert pairs[row.prompt, *row.transcript.split(" | ")] == row.reference


def test_the_deaf_control_has_every_recording_exchanged(trained: Config) -> None:
    exchanged = other_of(list(imitate.split_examples(trained, "test")))
    (store,) = (Path(trained.exp_dir) / "decode" / "test").glob("answers-*/store.jsonl")
    heard = {
        (row["prompt"], row["text"], *row.get("others", []))
        for row in map(json.loads, store.read_text().split("\n")[:-1])
    }
    for row in rows_of(trained, "deaf"):
        assert (row.prompt, *(exchanged[name] for name in (row.id, *row.others))) in heard


def test_pairs_are_scored(trained: Config) -> None:
    scores = json.loads(score.run(trained).read_text())
    assert scores["scores"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, made = tmp_path_factory.mktemp("audio"), []
    for number, (seconds, rate) in enumerate(((1.0, 16000), (0.6, 44100))):
        noise = 0.1 * np.random.default_rng(number).standard_normal(round(seconds * rate))
        made.append(str(folder / f"{number}.wav"))
        soundfile.write(made[-1], noise, rate)
    return made


def test_several_files_and_turns_are_asked_from_the_shell(
    trained: Config, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--prompt", "{speech} or {speech2}?"]
    assert main(["answer", files[0], "--exp", trained.exp_dir, files[1], *asked]) == 0
    first, second = map(Path, files)
    expected = answer(Path(trained.exp_dir), first, "{speech} or {speech2}?", [second])
    assert capsys.readouterr().out.strip() == expected
    turn = ["--turn", "Say: {speech}", "A greeting.", "--turn", "Why?", "I do not know."]
    assert main(["answer", "--exp", trained.exp_dir, *turn, "--prompt", "And {speech2}?", *files]) == 0
    history = [("Say: {speech}", "A greeting."), ("Why?", "I do not know.")]
    expected = answer(Path(trained.exp_dir), first, "And {speech2}?", [second], history)
    assert capsys.readouterr().out.strip() == expected


@pytest.mark.parametrize(
    ("count", "prompt", "message"),
    [
        (2, "{speech}", r"2 recordings, and no \{speech2\}"),
        (1, "{speech} {speech2}", r"no recording for the \{speech2\}"),
        (2, "{speech} {speech}", r"further recordings are \{speech2\}"),
    ],
)
def test_files_and_slots_are_compared_before_a_model_is_looked_for(
    count: int, prompt: str, message: str, files: list[str], tmp_path: Path
) -> None:
    first, *others = map(Path, files[:count])
    with pytest.raises(DataError, match=message):
        answer(tmp_path / "no model", first, prompt, others)
