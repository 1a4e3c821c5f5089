"""Training on labels: the LLM is asked nothing for it, the tests ask what they always ask, nothing held out leaks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.config import Config, root
from toolkit.data.answers import AnswerStore
from toolkit.data.labels import RULES
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.stages import imitate
from toolkit.stages.imitate import asked_examples, asked_requests, text_llm, training_questions, training_tasks
from toolkit.stages.paths import answers_folder
from toolkit.stages.train import training_examples

ConfigOf = Callable[..., Config]
LABELLED = "${oc.env:TOOLKIT_ROOT}/recipes/labelled_tasks"


def labelled(config_of: ConfigOf, exp: Path, *more: str, folder: Path | str = LABELLED) -> Config:
    return config_of(exp, "loss=cross_entropy", f"imitate.train_tasks={folder}", "imitate.tasks_per_cut=5", *more)


def write(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(f"name: {name}\nfamily: words\n{body}\n")
    return folder


WORDINGS = "wordings: {training: ['Tell me: {speech}'], held_out: ['Say: {speech}']}"


def test_every_training_utterance_is_answered_by_its_labels(config_of: ConfigOf, tmp_path: Path) -> None:
    config = labelled(config_of, tmp_path)
    tasks = training_tasks(config)
    examples = asked_examples(config, "train")
    requests = asked_requests(config, examples, list(tasks.values()))
    assert training_questions(requests, examples, tasks) == []
    found = training_examples(config, text_llm(config), LOSSES.build(config.loss))
    wording = {w: task for task in tasks.values() for w in task.training}
    answers = {(e.id, wording[e.prompt].name): e.response for e in found}
    assert len(answers) == 5 * 10
    for (name, task), answer in answers.items():
        text = examples[name].transcript
        assert answer == (text if task == "transcribe" else RULES[task](text))


def test_the_tests_are_asked_the_same_as_without(config_of: ConfigOf, tmp_path: Path) -> None:
    before = imitate.run(config_of(tmp_path / "mtbi"))
    after = imitate.run(labelled(config_of, tmp_path))
    assert after == {**before, "train": 0}


def test_a_development_set_is_answered_as_trained(config_of: ConfigOf, tmp_path: Path) -> None:
    folder = write(tmp_path / "tasks", "shorten", WORDINGS)  # an imitated task that the tests do not have
    config = labelled(config_of, tmp_path, folder=folder)
    config.data_dir = str(shutil.copytree(config.data_dir, tmp_path / "data"))
    imitate.run(config)
    llm, examples = text_llm(config), asked_examples(config, "dev")
    requests = imitate.development_requests(config, examples, training_tasks(config))
    assert {request.prompt for request in requests} == {"Tell me: {speech}"}
    store = AnswerStore(answers_folder(config, "dev", llm.key), llm.max_new_tokens)
    questions = training_questions(requests, examples, training_tasks(config))
    assert (len(questions), store.missing(questions)) == (2, [])


def test_what_the_tests_hold_out_is_not_trained_by_another_folder(config_of: ConfigOf, tmp_path: Path) -> None:
    task = write(tmp_path / "task", "title", WORDINGS)
    with pytest.raises(ConfigError, match=r"the task 'title' would train what .* holds out: the task itself"):
        training_tasks(labelled(config_of, tmp_path, folder=task))
    body = "wordings: {training: ['Write a headline for the following: {speech}'], held_out: ['Say: {speech}']}"
    wording = write(tmp_path / "wording", "heading", body)
    with pytest.raises(ConfigError, match=r"'heading' would train .* holds out: 'Write a headline"):
        imitate.run(labelled(config_of, tmp_path, folder=wording))


def test_labels_that_nobody_knows_are_found_before_training(config_of: ConfigOf, tmp_path: Path) -> None:
    folder = write(tmp_path / "tasks", "mood", f"target: label\nlabel: mood\n{WORDINGS}")
    with pytest.raises(DataError, match=r"nobody knows the label 'mood' .* here kind"):
        imitate.run(labelled(config_of, tmp_path, folder=folder))


def test_the_folder_is_found_wherever_the_command_is_run(config_of: ConfigOf, tmp_path: Path) -> None:
    assert Path(labelled(config_of, tmp_path).imitate.train_tasks) == root() / "recipes/labelled_tasks"
