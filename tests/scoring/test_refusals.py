from __future__ import annotations

import pytest

from toolkit.scoring.answers import Answer, Question
from toolkit.scoring.detectors import is_over_long, is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot provide a translation.",
        "As an AI language model, I do not have feelings.",
        "I’m just a language model.",
        "Unfortunately, I don't have the ability to hear audio.",
        "I am unable to directly answer this.",
        "Sorry, I won't.",
    ],
)
def test_refusals(answer: str) -> None:
    assert is_refusal(asked("hello"), Answer(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that.",
        "I can't wait to see you!",
        "Paris is the capital of France.",
        "You cannot help it.",
        "When I'm furious, I can't help but think about the world.",
        "",
        "word " * 30 + "I cannot help with that",
    ],
)
def test_what_is_no_refusal(answer: str) -> None:
    assert not is_refusal(asked("hello"), Answer(answer))


def test_what_the_utterance_says_itself_is_no_refusal() -> None:
    assert not is_refusal(asked("Well, I can't hear you."), Answer("I can't hear you!"))


@pytest.mark.parametrize(
    ("reference", "answer", "long"), [(2, 21, True), (2, 20, False), (7, 21, False), (7, 22, True), (0, 21, True)]
)
def test_over_long_is_both_many_words_and_many_times_the_references(reference: int, answer: int, long: bool) -> None:
    assert is_over_long(asked("hello", "word " * reference), Answer("word " * answer)) is long


def asked(said: str, reference: str = "an answer") -> Question:
    return Question("a", "reply", "{speech}", "seen_wording", said, reference)
