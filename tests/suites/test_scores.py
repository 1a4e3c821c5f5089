"""Figures against numbers counted by hand: every measure, its n, its interval and what it calls its rule."""

from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import pytest

from toolkit.scoring.answers import Answer
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.normalisation import normaliser
from toolkit.suites.item import EXACT, LABEL, LETTERS, LOOSE, REFUSAL, RULES, WORDS, YES_NO, Item, Rule, Sound
from toolkit.suites.rules import CHECKS
from toolkit.suites.scores import DEFINITIONS, FAULTS, OURS, PUBLISHED, Figure, Judged, figures_of, judge, rule_figures


def judged(answers: Seq[str], measures: tuple[str, ...], *fields: dict[str, Any], units: Seq[str] = ()) -> list[Judged]:
    """Judge answers to items of one kind; each about a recording of its own unless `units` says otherwise."""
    names = units or [str(number) for number in range(len(answers))]
    made = []
    for number, (text, name, more) in enumerate(zip(answers, names, fields, strict=True)):
        item = Item(f"p/{number}", "p", (Sound(name, Path(name)),), measures, **more)
        made.append(judge(item, Answer(text), CHECKS))
    return made


def figures(rows: Seq[Judged]) -> dict[str, Figure]:
    found = {each.measure: each for each in figures_of("p", rows, normaliser("basic"), Resampling(50))}
    assert set(found) <= {*DEFINITIONS, *FAULTS}
    return found


def test_rules_are_counted_by_prompt_and_by_instruction_strictly_and_loosely() -> None:
    both = {"rules": (Rule("punctuation:no_comma", {}), Rule("startend:quotation", {}))}
    one = {"rules": (Rule("punctuation:no_comma", {}),)}
    answers = ['"tea"', 'So:\n"tea"', "a, b", ""]
    rows = judged(answers, (RULES, LOOSE), both, both, both, one)
    assert [row.verdict["followed"] for row in rows] == [[True, True], [True, False], [False, False], [False]]
    found = figures(rows)
    # 1 of 4 prompts and 3 of 7 instructions as they stand; without its first line the second answer keeps both.
    assert found["prompts, strict"].value == pytest.approx(25)
    assert found["instructions, strict"].value == pytest.approx(300 / 7)
    assert found["prompts, loose"].value == pytest.approx(50)
    assert found["instructions, loose"].value == pytest.approx(400 / 7)
    assert found["mean of the four"].value == pytest.approx((25 + 300 / 7 + 50 + 400 / 7) / 4)
    assert {each.n for each in found.values()} == {4}
    assert all(each.rule == PUBLISHED for name, each in found.items() if "strict" in name or "loose" in name)
    for each in found.values():
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high  # type: ignore[operator]
    comma, quotation = rule_figures(rows, Resampling(50))
    assert (comma.measure, comma.value, comma.n) == ("punctuation:no_comma", 50.0, 4)
    assert (quotation.measure, quotation.n) == ("startend:quotation", 3)
    assert quotation.value == pytest.approx(100 / 3)


def test_choices_count_unparsed_answers_as_wrong() -> None:
    letters = {"reference": "B", "options": ("A", "B", "C", "D")}
    answers = ["The answer is B.", "(C)", "No idea at all.", "B"]
    accuracy = figures(judged(answers, (LETTERS,), *([letters] * 4)))["accuracy"]
    assert (accuracy.value, accuracy.n, accuracy.rule) == (50.0, 4, OURS)
    assert accuracy.details == {"unparsed": 1}
    said = {"reference": "no", "options": ("yes", "no")}
    accuracy = figures(judged(["No.", "Yes.", "Hm."], (YES_NO,), said, said, said))["accuracy"]
    assert accuracy.value == pytest.approx(100 / 3)
    assert accuracy.details == {"unparsed": 1}


def test_labels_are_counted_exactly_and_as_named() -> None:
    label = {"reference": "Not rising", "options": ("Not rising", "rising")}
    answers = [" not RISING ", "It is not rising.", "rising", "Not rising, or rising?", "Hm"]
    found = figures(judged(answers, (EXACT, LABEL), *([label] * 5)))
    assert (found["exact label"].value, found["exact label"].rule) == (20.0, PUBLISHED)
    assert (found["label named"].value, found["label named"].rule) == (40.0, OURS)
    assert found["label named"].details == {"unparsed": 2}
    assert "exact label" not in figures(judged(answers, (LABEL,), *([label] * 5)))


def test_word_errors_are_those_of_the_whole_answer() -> None:
    references = [{"reference": "THE KETTLE IS ON"}, {"reference": "TEA"}]
    found = figures(judged(["the kettle is off", "It is: tea"], (WORDS,), *references))
    # One substitution, and two insertions, of five words.
    assert found["WER of the whole answer"].value == pytest.approx(60)
    assert found["WER of the whole answer"].rule == OURS


def test_silence_is_a_refusal_by_the_published_rule_and_said_to_be_one() -> None:
    found = figures(judged(["I'm sorry.", "", "Sure: take", "I won't."], (REFUSAL,), {}, {}, {}, {}))
    assert (found["refusals, empty ones too"].value, found["refusals, empty ones too"].details) == (75.0, {"empty": 1})
    assert (found["refusals in words"].value, found["refusals in words"].rule) == (50.0, OURS)
    assert found["empty"].value == 25.0


def test_items_about_one_recording_are_drawn_together() -> None:
    letters = {"reference": "A", "options": ("A", "B")}
    rows = judged(["A", "B", "A", "B"], (LETTERS,), *([letters] * 4), units=["x", "x", "y", "y"])
    accuracy = figures(rows)["accuracy"]
    # Each recording has one right and one wrong answer, so that no resample differs.
    assert (accuracy.n, accuracy.units, accuracy.low, accuracy.high) == (4, 2, 50.0, 50.0)
    alone = figures(judged(["A"], (LETTERS,), letters))["accuracy"]
    assert (alone.value, alone.low, alone.note) == (100.0, None, "no interval from one utterance")
