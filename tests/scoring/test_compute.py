from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import DataError
from toolkit.scoring.answers import pair
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.compute import NO_CHOICE, NO_ZERO, NOT_DEPENDENT, score
from toolkit.scoring.examples import choose
from toolkit.scoring.scorecard import ALL, Scorecard, read_scorecard

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Write = Callable[[str, list[Row]], Path]
Systems = Callable[..., dict[str, Path]]
GROUPS = ("seen_wording", "held_out_wording", "held_out_task")


def value(card: Scorecard, metric: str, system: str, group: str = GROUPS[0], task: str = ALL) -> float | None:
    found = card.find(metric, system, group, task)
    assert found is not None
    return found.value


def test_text_is_100_and_other_is_0_in_every_pool(systems: Systems) -> None:
    card = score(systems(), normaliser_name="basic")
    agreements = [x for x in card.scores if x.metric == "agreement"]
    assert {(x.group, x.task) for x in agreements} == {
        *((group, task) for group in GROUPS[:2] for task in (ALL, "reply", "sentiment")),
        *((GROUPS[2], task) for task in (ALL, "title")),
    }
    for x in agreements:
        if x.system == "text":
            assert (x.low, x.value, x.high) in ((100, 100, 100), (None, 100, None))
        if x.system == "other":
            assert (x.low, x.value, x.high) in ((0, 0, 0), (None, 0, None))
        # Six utterances with two answers: some resample holds but one of them, and b = 100 there.
        assert (x.low is None) == (x.task == "sentiment")


def test_agreement_counted_by_hand(row: MakeRow, write: Write) -> None:
    def rows(answers: str, **more: Any) -> list[Row]:
        return [row(f"u{n}", "reply", answers[n], "abcd"[n], **more) for n in range(4)]

    card = score({"speech": write("speech", rows("abcx")), "other": write("other", rows("axxx", heard="z"))})
    assert value(card, "agreement", "speech") == pytest.approx(100 * (75 - 25) / (100 - 25))
    found = card.find("agreement", "speech", GROUPS[0], "reply")
    assert found is not None
    assert (found.n, found.utterances, found.unit) == (4, 4, "%")
    assert found.details == {"similarity": 75, "similarity_zero": 25}
    # With replacement, four draws may all be the one utterance where `other` was right.
    assert (found.low, found.note) == (None, "no interval: some resamples cannot be measured")


def test_word_error_rates_by_group_and_system(row: MakeRow, write: Write) -> None:
    def rows(first: str, second: str) -> list[Row]:
        return [
            row("a", "transcribe", first, "one red cat"),
            row("b", "transcribe", "one red dog", "one red dog"),
            row(
                "a",
                "transcribe",
                second,
                "one red cat",
                group="held_out_wording",
                prompt="Write down {speech}",
            ),
        ]

    files = {
        "speech": write("speech", rows("a big red cat", "")),
        "text": write("text", rows("one red cat", "cat")),
    }
    card = score(files, normaliser_name="basic")
    seen = card.find("wer", "speech", "seen_wording", "transcribe")
    assert seen is not None
    assert seen.value == pytest.approx(100 * 2 / 6)
    assert seen.details == {"insertions": 1, "deletions": 0, "substitutions": 1, "words": 6}
    assert value(card, "wer", "speech", "held_out_wording", "transcribe") == 100
    assert value(card, "wer", "text", "seen_wording", "transcribe") == 0
    assert value(card, "wer", "text", "held_out_wording", "transcribe") == pytest.approx(100 * 2 / 3)
    assert card.find("wer", "cascade", "seen_wording", "transcribe") is None
    assert not [x for x in card.scores if x.metric == "agreement"]


def test_unparsed_answers_are_wrong_and_unparsed_references_left_out(row: MakeRow, write: Write) -> None:
    given = {"a": ("yes", "Yes."), "b": ("maybe", "no"), "c": ("no", "yes"), "d": ("yes", "It depends")}
    rows = [row(id_, "spam", said, wanted, choices=["yes", "no"]) for id_, (said, wanted) in given.items()]
    found = score({"speech": write("speech", rows)}).find("accuracy", "speech", GROUPS[0], "spam")
    assert found is not None
    assert found.value == pytest.approx(100 / 3)
    assert (found.n, found.details) == (3, {"unparsed": 1, "left_out": 1})
    rows = [row("a", "spam", "yes", "perhaps", choices=["yes", "no"])]
    found = score({"speech": write("speech", rows)}).find("accuracy", "speech", GROUPS[0], "spam")
    assert found is not None
    assert (found.value, found.n, found.note) == (None, 0, NO_CHOICE)


def test_what_cannot_be_measured_is_said_and_not_invented(row: MakeRow, write: Write) -> None:
    same = [row(id_, "reply", "Okay.", "Okay.") for id_ in "ab"]
    files = {"speech": write("speech", same)}
    found = score(files).find("agreement", "speech", GROUPS[0], ALL)
    assert found is not None
    assert (found.value, found.low, found.note) == (None, None, NO_ZERO)
    files["other"] = write("other", [{**x, "heard": "z"} for x in same])
    found = score(files).find("agreement", "speech", GROUPS[0], ALL)
    assert found is not None
    assert (found.value, found.low, found.note) == (None, None, NOT_DEPENDENT)


def test_fault_rates(row: MakeRow, write: Write) -> None:
    answers = ["", "go go go go", "fine", "also fi"]
    rows = [row(f"u{n}", "reply", text, "x", complete=n < 3) for n, text in enumerate(answers)]
    card = score({"speech": write("speech", rows)})
    assert [value(card, name, "speech", ALL) for name in ("empty", "loops", "cut_off")] == [25, 25, 25]


def test_a_missing_system_has_no_scores(systems: Systems) -> None:
    files = systems()
    del files["cascade"]
    assert {x.system for x in score(files).scores} == {"speech", "deaf", "text", "other"}


def test_pairing_errors_stop_the_scoring(systems: Systems) -> None:
    files = systems()
    lines = files["text"].read_text().splitlines()
    files["text"].write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(DataError, match="`text` lacks 1 question"):
        score(files)


def test_scorecard_survives_its_file(systems: Systems, tmp_path: Path) -> None:
    card = score(systems(), resampling=Resampling(100), metadata={"seed": 3, "parts": {"adapter": {"name": "stack"}}})
    card.write(tmp_path / "scores.json")
    again = read_scorecard(tmp_path / "scores.json")
    again.write(tmp_path / "again.json")
    assert (tmp_path / "scores.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    assert again.metadata["parts"] == {"adapter": {"name": "stack"}}
    assert again.questions == card.questions
    plain = json.loads((tmp_path / "scores.json").read_text())
    assert {"scores", "normaliser", "agreement", "versions", "commit", "examples", "metadata"} <= set(plain)
    assert set(plain["versions"]) == {"python", "torch", "transformers", "sacrebleu", "jiwer", "toolkit"}
    assert {"metric", "system", "group", "task", "value", "low", "high", "n", "unit"} <= set(plain["scores"][0])


def test_broken_and_missing_scorecards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `toolkit score`"):
        read_scorecard(tmp_path / "scores.json")
    (tmp_path / "scores.json").write_text('{"scores": []}')
    with pytest.raises(DataError, match="not a scorecard"):
        read_scorecard(tmp_path / "scores.json")


def test_examples_take_turns_and_do_not_depend_on_answers(systems: Systems) -> None:
    chosen = choose(pair(systems("one/")), 6)
    assert [example.group for example in chosen] == [*GROUPS, *GROUPS]
    assert len({example.id for example in chosen}) == 6
    keys = [(example.id, example.prompt) for example in chosen]
    again = choose(pair(systems("two/", spoil="something else entirely")), 6)
    assert keys == [(example.id, example.prompt) for example in again]
    assert [x.answers for x in chosen] != [x.answers for x in again]
    assert chosen[0].heard["deaf"] != chosen[0].id
    assert len(choose(pair(systems("three/")), 1000)) == 42
