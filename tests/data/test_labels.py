"""Labels: by rule of any transcript, or as the corpus says; and what else a request must draw."""

from pathlib import Path

import pytest

from toolkit.data.cuts import example_of, make_cut
from toolkit.data.labels import RULES, known_target
from toolkit.data.tasks import Request, Task, load_tasks
from toolkit.errors import DataError
from toolkit.types import Example

TEXT = "“Where” - is Kate’s well-known café?”"
EXAMPLE = Example("u", 2.0, TEXT, metadata={"kind": "question"})
ASKED = Request("u", "t", "seen_wording", "What? {speech}")


def task(target: str, label: str = "") -> Task:
    return Task("t", "f", False, target, (), ("What? {speech}",), ("Which? {speech}",), label=label)


@pytest.mark.parametrize(
    ("label", "text", "expected"),
    [
        ("first_word", TEXT, "Where"),
        ("last_word", TEXT, "café"),
        ("word_count", TEXT, "5"),
        ("sentence_type", TEXT, "question"),
        ("first_word", "so", "so"),
        ("last_word", "She said: “Don’t!”", "Don’t"),
        ("word_count", "one , two .", "2"),
        ("sentence_type", "Why? Because.", "statement"),
        ("sentence_type", 'He asked: "why?" ', "question"),
        ("first_word", "", ""),
        ("last_word", "...", ""),
        ("word_count", " ", "0"),
        ("sentence_type", "", "statement"),
    ],
)
def test_rules(label: str, text: str, expected: str) -> None:
    assert RULES[label](text) == expected
    assert known_target(task("label", label), ASKED, Example("u", 2.0, text)) == expected


def test_what_the_corpus_says_is_a_label_too(tmp_path: Path) -> None:
    cut = make_cut("u", tmp_path / "a.wav", TEXT, sampling_rate=8, num_samples=16, custom={"kind": "request", "age": 7})
    example = example_of(cut)
    assert known_target(task("label", "kind"), ASKED, example) == "request"
    assert known_target(task("label", "age"), ASKED, example) == "7"


def test_transcripts_are_known_and_answers_are_not() -> None:
    assert known_target(task("transcript"), ASKED, EXAMPLE) == TEXT
    assert known_target(task("llm"), ASKED, EXAMPLE) is None


def test_a_label_of_a_rule_is_of_all_that_is_given_and_one_of_the_corpus_of_one_utterance() -> None:
    joined = Request("u", "t", "seen_wording", "What? Two more. {speech}", before="Two more.")
    assert known_target(task("label", "first_word"), joined, EXAMPLE) == "Two"
    assert known_target(task("label", "word_count"), joined, EXAMPLE) == "7"
    assert known_target(task("transcript"), joined, EXAMPLE) == f"Two more. {TEXT}"
    with pytest.raises(DataError, match=r"'kind' is of one utterance.*imitate\.concatenated=0"):
        known_target(task("label", "kind"), joined, EXAMPLE)


def test_a_label_that_nobody_knows_names_those_there_are() -> None:
    with pytest.raises(DataError, match=r"label 'gender' of 'u'. .* first_word, .*; here kind"):
        known_target(task("label", "gender"), ASKED, EXAMPLE)


def test_every_rule_has_a_task() -> None:
    tasks = load_tasks(Path(__file__).resolve().parents[2] / "recipes/labelled_tasks")
    assert {each.label for each in tasks.values()} == {*RULES, ""}
