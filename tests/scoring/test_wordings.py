"""Mean, spread and worst over wordings, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.scoring import metrics
from toolkit.scoring.answers import Question
from toolkit.scoring.benchmark import AGREEMENT, WORD_ERRORS
from toolkit.scoring.bootstrap import Array, Resampling
from toolkit.scoring.pools import pools
from toolkit.scoring.scorecard import ALL, Score
from toolkit.scoring.wordings import NO_SPREAD, Measure, each_wording, kept, over_wordings

QUICK = Resampling(50)


def asked(*cells: tuple[str, str, str, float], utterances: int = 3) -> tuple[list[Question], Array]:
    """Return questions and columns of which every utterance has the agreement given: (group, task, prompt, it)."""
    questions, rows = [], []
    for group, task, prompt, value in cells:
        for number in range(utterances):
            questions.append(Question(f"u{number}", task, prompt, group, "said", "reference"))
            rows.append((value / 2, 50.0))
    return questions, np.array(rows)


def found(questions: list[Question], columns: Array, measure: Measure = AGREEMENT) -> dict[tuple[str, str, str], Score]:
    parts = list(pools(questions))
    scores = over_wordings(questions, columns, measure, parts, "speech", QUICK)
    return {(score.metric.split("_")[1], score.group, score.task): score for score in scores}


SEEN, HELD = "seen_wording", "held_out_wording"
CELLS = [
    (SEEN, "reply", "a", 80), (SEEN, "reply", "b", 100), (SEEN, "title", "c", 60),
    (HELD, "reply", "d", 50), (HELD, "reply", "e", 70), (HELD, "reply", "f", 90), (HELD, "title", "g", 20),
    (HELD, "title", "h", 40),
]  # fmt: skip


def test_counted_by_hand() -> None:
    scores = found(*asked(*CELLS))
    assert scores["mean", HELD, "reply"].value == pytest.approx(70)
    assert scores["spread", HELD, "reply"].value == pytest.approx(20)
    assert (scores["worst", HELD, "reply"].value, scores["worst", HELD, "reply"].wording) == (50, "d")
    # Tasks count alike, whatever their numbers of wordings; their difference is no spread.
    assert scores["mean", HELD, ALL].value == pytest.approx((70 + 30) / 2)
    assert scores["spread", HELD, ALL].value == pytest.approx((20 + np.sqrt(200)) / 2)
    assert (scores["worst", HELD, ALL].value, scores["worst", HELD, ALL].wording) == (20, "g")
    assert scores["mean", SEEN, ALL].value == pytest.approx((90 + 60) / 2)
    assert scores["mean", HELD, "reply"].n == 9
    assert scores["mean", HELD, "reply"].utterances == 3
    assert scores["mean", HELD, "reply"].details == {"wordings": 3, "left_out": 0}
    # All utterances have one value here, so that every resample finds it again.
    for score in scores.values():
        assert score.low == pytest.approx(score.value)
        assert score.high == pytest.approx(score.value)


def test_a_task_of_one_wording_has_no_spread() -> None:
    score = found(*asked(*CELLS))["spread", SEEN, "title"]
    assert (score.value, score.note) == (None, NO_SPREAD)
    # And it has none to add to that of the group.
    assert found(*asked(*CELLS))["spread", SEEN, ALL].value == pytest.approx(np.sqrt(200))


def test_what_is_kept_of_the_seen_wordings() -> None:
    questions, columns = asked(*CELLS)
    assert kept(questions, columns, AGREEMENT, "speech", QUICK).value == pytest.approx(100 * 50 / 75)
    nothing = kept(questions, 0 * columns + [0, 1], AGREEMENT, "deaf", QUICK)
    assert nothing.value is None
    assert "nothing is above zero" in nothing.note


def test_a_wording_that_cannot_be_measured_is_left_out_and_counted() -> None:
    questions, columns = asked((SEEN, "reply", "a", 80), (SEEN, "reply", "b", 60), (SEEN, "reply", "c", 0))
    columns[6:] = 0  # under "c" the text LLM answers every transcript alike
    scores = found(questions, columns)
    assert scores["mean", SEEN, "reply"].value == pytest.approx(70)
    assert scores["worst", SEEN, "reply"].wording == "b"
    assert scores["mean", SEEN, "reply"].details == {"wordings": 3, "left_out": 1}
    none = found(questions[6:], columns[6:])["worst", SEEN, "reply"]
    assert (none.value, none.wording) == (None, "")


def test_a_wording_that_a_resample_lacks_is_left_out_of_it() -> None:
    # Each utterance was asked in a wording of its own.
    questions = [Question(f"u{i}", "reply", f"p{i}", SEEN, "said", "r") for i in range(4)]
    columns = np.array([[value, 100.0] for value in (20, 40, 60, 80)])
    score = found(questions, columns)["mean", SEEN, "reply"]
    assert score.low is not None
    assert score.low < 50 < (score.high or 0)


def test_a_wording_with_next_to_no_room_is_noise_and_is_left_out() -> None:
    questions, columns = asked((SEEN, "reply", "a", 80), (SEEN, "reply", "b", 60))
    columns[3:] = [-2.0, 4.0]  # b = 96: -50 would be the score of two points
    scores = found(questions, columns)
    assert (scores["mean", SEEN, "reply"].value, scores["worst", SEEN, "reply"].wording) == (80, "a")
    assert scores["mean", SEEN, "reply"].details == {"wordings": 2, "left_out": 1}


def test_a_resample_without_a_task_leaves_no_interval_and_shifts_none() -> None:
    questions, columns = asked((SEEN, "reply", "a", 80), (SEEN, "mood", "b", 20))
    columns[3:5] = 0  # what the mood of the first two is depends on nothing
    score = found(questions, columns)["mean", SEEN, ALL]
    assert score.value == pytest.approx(50)
    assert (score.low, score.note) == (None, "no interval: some resamples cannot be measured")


def test_of_word_errors_the_worst_are_the_most() -> None:
    questions, _ = asked((SEEN, "transcribe", "a", 0), (SEEN, "transcribe", "b", 0))
    columns = np.array([[0, 0, 1, 10]] * 3 + [[1, 1, 1, 10]] * 3, dtype=float)
    scores = found(questions, columns, WORD_ERRORS)
    assert scores["mean", SEEN, "transcribe"].value == pytest.approx(20)
    assert (scores["worst", SEEN, "transcribe"].value, scores["worst", SEEN, "transcribe"].wording) == (30, "b")


def test_every_wording_has_a_score_of_its_own() -> None:
    questions, columns = asked(*CELLS)
    scores = list(each_wording(questions, columns, AGREEMENT, "speech", QUICK))
    assert {(x.group, x.task, x.wording): round(x.value or 0) for x in scores} == {x[:3]: x[3] for x in CELLS}
    assert {score.n for score in scores} == {3}
    assert metrics.agreement(columns.sum(axis=0)) == pytest.approx(np.mean([value for *_, value in CELLS]))
