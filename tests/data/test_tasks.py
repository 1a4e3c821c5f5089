from pathlib import Path

import pytest

from toolkit.data.tasks import choose, evaluation_requests, load_tasks, training_requests
from toolkit.errors import ConfigError, DataError, UnknownNameError

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "tasks"
CUTS = [f"utt{i}" for i in range(30)]


def test_training_asks_training_wordings_of_training_tasks_only() -> None:
    tasks = load_tasks(FOLDER)
    held_out = {w for t in tasks.values() for w in t.testing}
    requests = training_requests(CUTS, choose(tasks, []), 2, seed=1)
    assert len(requests) == 60
    assert not any(r.prompt in held_out or tasks[r.task].held_out for r in requests)
    assert requests == training_requests(CUTS, choose(tasks, []), 2, seed=1)
    assert requests != training_requests(CUTS, choose(tasks, []), 2, seed=2)


def test_tests_ask_everything_of_everyone() -> None:
    tasks = load_tasks(FOLDER)
    requests = evaluation_requests(CUTS, tasks)
    for task in tasks.values():
        groups = [r.group for r in requests if r.task == task.name and r.cut == "utt0"]
        assert groups == (["held_out_task"] if task.held_out else ["seen_wording", "held_out_wording"])
    assert all(r.prompt in tasks[r.task].training for r in requests if r.group == "seen_wording")
    assert all(r.prompt in tasks[r.task].testing for r in requests if r.group != "seen_wording")


def test_a_held_out_task_is_never_trained() -> None:
    with pytest.raises(ConfigError, match="held out"):
        choose(load_tasks(FOLDER), ["title"])


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'continue'"):
        choose(load_tasks(FOLDER), ["contine"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nfamily: b\nwordings: {training: ['x'], held_out: ['{speech}']}", "exactly once"),
        (
            "name: a\nfamily: b\nwordings: {training: ['{speech}'], held_out: ['{speech}']}",
            "both trained and held",
        ),
        (
            "name: a\nfamily: b\nheld_out: true\nwordings: {training: ['{speech}'], held_out: ['a {speech}']}",
            "only",
        ),
        ("name: a\nfamily: b\ntarget: transcript\nwordings: {}", "no other"),
        ("name: a\nfamily: b\ncolour: red\nwordings: {}", "keys"),
        ("name: a\nfamily: b\ntarget: labels\nwordings: {}", "'llm', 'transcript' or 'label', not 'labels'"),
        ("name: a\nfamily: b\ntarget: label\nwordings: {}", "says which one"),
        ("name: a\nfamily: b\nlabel: kind\nwordings: {}", "and no other, says which one"),
        (
            "name: a\nfamily: b\ntarget: label\nlabel: kind\n"
            "wordings: {training: ['{speech} {speech2}'], held_out: ['a {speech}']}",
            "the label of one utterance is the target, and .* is about 2",
        ),
    ],
)
def test_a_broken_task_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        load_tasks(tmp_path)
    assert "broken.yaml" in str(error.value)
