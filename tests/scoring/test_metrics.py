from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.errors import DataError
from toolkit.scoring import metrics
from toolkit.scoring.answers import Answer, Question
from toolkit.scoring.detectors import is_cut_off, is_empty, is_loop
from toolkit.scoring.metrics import parse_choice
from toolkit.scoring.normalisation import normaliser


def question(reference: str) -> Question:
    return Question("a", "reply", "{speech}", "seen_wording", "said", reference)


def test_word_errors_counted_by_hand() -> None:
    references = ["The cat sat.", "a b c d", "hello world"]
    hypotheses = ["the cat sat", "a x d", "hello big world"]
    counts = metrics.word_errors([question(x) for x in references], hypotheses, normaliser("basic"))
    #                          ins del sub words
    assert counts.tolist() == [[0, 0, 0, 3], [0, 1, 1, 4], [1, 0, 0, 2]]
    assert metrics.word_error_rate(counts.sum(axis=0)) == pytest.approx(100 * 3 / 9)


def test_both_sides_are_normalised_and_an_empty_answer_is_all_deletions() -> None:
    counts = metrics.word_errors([question("Twenty-one men.")] * 2, ["21 men", ""], normaliser("english"))
    assert counts.tolist() == [[0, 0, 0, 2], [0, 2, 0, 2]]


def test_an_empty_transcript_is_an_error_that_names_the_utterance() -> None:
    with pytest.raises(DataError, match=r"transcript of a \('Um\.'\) has no words .* 'english'"):
        metrics.word_errors([question("Um.")], ["um"], normaliser("english"))


def test_similarity_by_hand() -> None:
    # "ab" and "ax": half of the 1-grams, none of the 2-grams, so P = R = F = 25.
    assert metrics.similarities([question("ab")], ["ax"]).tolist() == pytest.approx([25])
    values = metrics.similarities([question("a"), question("a"), question(""), question("")], ["a", "b", " ", "b"])
    assert values.tolist() == [100, 0, 100, 0]


def test_agreement_by_hand() -> None:
    # Mean similarities 75 and 25 over 4 rows: 50 of the 75 points above the zero.
    zero = np.array([100.0, 0, 0, 0])

    def agreement(*values: float, zero: NDArray[np.float64] = zero) -> float:
        return float(metrics.agreement(metrics.above_zero(np.array(values), zero).sum(axis=0)))

    assert agreement(100, 100, 0, 100) == pytest.approx(100 * 50 / 75)
    assert agreement(100, 100, 100, 100) == 100
    assert agreement(*zero) == 0
    assert agreement(0, 0, 0, 0) == pytest.approx(-100 / 3)
    assert np.isnan(agreement(100, zero=np.array([100.0])))


def test_definition_names_the_similarity() -> None:
    assert "nc:6|nw:0|space:no|version:" in metrics.agreement_definition()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Positive.", "positive"),
        ("The sentiment is **positive**", "positive"),
        ("Positive, very positive", "positive"),
        ("positive or negative", None),
        ("positively", None),
        ("", None),
        ("Not sure", "not sure"),
        ("I am sure", "sure"),
    ],
)
def test_a_choice_is_parsed_if_it_is_the_only_one(answer: str, expected: str | None) -> None:
    assert parse_choice(answer, ["Positive", "negative", "sure", "not sure"]) == expected


def test_a_choice_that_nothing_could_name() -> None:
    with pytest.raises(DataError, match="without any letter"):
        parse_choice("yes", ["yes", "?"])


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("no no no", False),
        ("No, no, no, NO!", True),
        ("the man is the man is", False),
        ("well the man is the man is the man is", True),
        ("ha ha he he ha ha", False),
        ("a b a b c a b", False),
        ("", False),
    ],
)
def test_loops(text: str, loops: bool) -> None:
    assert is_loop(Answer(text)) is loops


def test_empty_and_cut_off() -> None:
    assert is_empty(Answer(" \n"))
    assert not is_empty(Answer("."))
    assert is_cut_off(Answer("a", complete=False))
    assert not is_cut_off(Answer("a"))
