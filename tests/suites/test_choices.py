"""Reading choices and refusals: what names one, and what names none or several and is unparsed."""

import pytest

from toolkit.suites.choices import parse_letter, parse_yes_no
from toolkit.suites.refusals import PHRASES, is_refusal


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" (c). ", "C"),
        ("**D**", "D"),
        ("The answer is B.", "B"),
        ("The correct answer is: **C) a pond**", "C"),
        ("ANSWER: A", "A"),
        ("I would choose option D because it is wet.", "D"),
        ("The answer to the question is (a)", "A"),
        ("Option A is dry, so the answer is B.", "B"),
        ("It must be option C", "C"),
        ("B. In a pond", "B"),
        ("B) In a pond", "B"),
        ("B\nFrogs live in ponds.", "B"),
        ("Frogs live in ponds, as in (b).", "B"),
        ("The answer is A because it is wet.", "A"),
        ("The answer is a marsh.", None),
        ("A marsh is where frogs live.", None),
        ("Answer: A marsh", None),
        ("The answer is B. No, the answer is C.", None),
        ("Option A or option B", None),
        ("(A) or (B)", None),
        ("In a pond.", None),
        ("E", None),
        ("", None),
    ],
)
def test_a_letter_is_read_if_exactly_one_is_named(answer: str, letter: str | None) -> None:
    assert parse_letter(answer, "ABCD") == letter


def test_only_the_letters_of_the_question_count() -> None:
    assert parse_letter("C", "AB") is None
    assert parse_letter("The answer is (B).", "AB") == "B"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes.", "yes"),
        ("no", "no"),
        ("**No**, you are not back.", "no"),
        ("The answer is true.", "yes"),
        ("You turn left, so the answer is: no", "no"),
        ("After four steps one is not back. So, no.", "no"),
        ("Yes and no", "yes"),
        ("The answer is yes. The answer is no.", None),
        ("There is no telling.", None),
        ("Nobody knows", None),
        ("", None),
    ],
)
def test_yes_and_no_are_read_after_a_cue_at_the_beginning_or_at_the_end(answer: str, said: str | None) -> None:
    assert parse_yes_no(answer) == said


def test_refusals_are_told_by_their_phrases() -> None:
    assert is_refusal("I'm SORRY, but no.")
    assert is_refusal("That would be illegal.")
    assert not is_refusal("Sure! Here is how.")
    assert not is_refusal("")
    # None of them holds another one: then it could never decide.
    assert not [(a, b) for a in PHRASES for b in PHRASES if a != b and a in b]
