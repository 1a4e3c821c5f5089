from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import DataError, UnknownNameError
from toolkit.scoring.answers import pair, read_answers

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Write = Callable[[str, list[Row]], Path]


def test_rows_are_paired_by_key_and_not_by_position(row: MakeRow, write: Write) -> None:
    speech = [row("a", "reply", "1", "x"), row("b", "reply", "2", "y")]
    text = [row("b", "reply", "y", "y"), row("a", "reply", "x", "x")]
    paired = pair({"speech": write("speech", speech), "text": write("text", text)})
    assert [question.id for question in paired.questions] == ["a", "b"]
    assert [answer.hypothesis for answer in paired.answers["speech"]] == ["1", "2"]
    assert [answer.hypothesis for answer in paired.answers["text"]] == ["x", "y"]


def test_missing_row_names_its_key_and_the_system_that_lacks_it(row: MakeRow, write: Write) -> None:
    speech = [row("a", "reply", "1", "x"), row("b", "reply", "2", "y")]
    files = {"speech": write("speech", speech), "text": write("text", speech[:1])}
    with pytest.raises(DataError, match=r"`text` lacks 1 question\(s\), e.g. \(b, reply, .*`speech` answers"):
        pair(files)
    with pytest.raises(DataError, match=r"`text` lacks 1 question"):
        pair(dict(reversed(files.items())))


def test_double_row_is_named(row: MakeRow, write: Write) -> None:
    path = write("speech", [row("a", "reply", "1", "x"), row("a", "reply", "2", "x")])
    with pytest.raises(DataError, match=r"speech.jsonl answers 1 question.*\(a, reply.*more than once"):
        read_answers(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("reference", "z"), ("transcript", "z"), ("group", "held_out_task"), ("choices", ["yes", "no"])],
)
def test_systems_must_agree_about_the_question(row: MakeRow, write: Write, field: str, value: Any) -> None:
    first = row("a", "reply", "1", "x")
    files = {"speech": write("speech", [first]), "text": write("text", [{**first, field: value}])}
    with pytest.raises(DataError, match=rf"`speech` and `text` have a different {field} for .*\(a, reply"):
        pair(files)


def test_controls_must_hear_another_utterance_and_the_others_their_own(row: MakeRow, write: Write) -> None:
    own, another = row("a", "reply", "1", "x"), row("a", "reply", "1", "x", heard="b")
    assert pair({"deaf": write("deaf", [another])})
    with pytest.raises(DataError, match="given its own utterance, so it controls nothing"):
        pair({"deaf": write("deaf", [own])})
    with pytest.raises(DataError, match=r"`speech` .* was given another utterance"):
        pair({"speech": write("speech", [another])})


def test_unknown_system_names_the_known_ones(row: MakeRow, write: Write) -> None:
    with pytest.raises(UnknownNameError, match=r"'speach'. Did you mean 'speech'"):
        pair({"speach": write("speach", [row("a", "reply", "1", "x")])})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"hypothesis": None}, "'hypothesis' must be a string"),
        ({"group": "seen"}, "there is no group 'seen'"),
        ({"choices": "yes"}, "'choices' must be a list"),
        ({"complete": "yes"}, "'complete' must be"),
    ],
)
def test_broken_rows_are_refused_with_their_line(row: MakeRow, write: Write, broken: Row, message: str) -> None:
    rows = [row("a", "reply", "1", "x"), {**row("b", "reply", "1", "x"), **broken}]
    with pytest.raises(DataError, match=f"speech.jsonl:2: {message}"):
        read_answers(write("speech", rows))


def test_not_json_empty_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "speech.jsonl"
    with pytest.raises(DataError, match="there are no answers at"):
        read_answers(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_answers(path)
    path.write_text('{"id": \n')
    with pytest.raises(DataError, match=r"speech.jsonl:1 is not JSON"):
        read_answers(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match=r"speech.jsonl:1: not a record"):
        read_answers(path)


def test_line_separators_of_unicode_inside_an_answer_end_no_row(row: MakeRow, write: Write) -> None:
    path = write("speech", [row("a", "reply", "one\u2028two\x85three", "x")])
    ((_, answer),) = read_answers(path).values()
    assert answer.hypothesis == "one\u2028two\x85three"
