"""Two systems on the same questions: differences that can be checked by hand, over one seed and several."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ConfigError, DataError
from toolkit.scoring.answers import read_answers
from toolkit.scoring.bootstrap import Resampling, draw, estimate
from toolkit.scoring.comparison import difference, ratio
from toolkit.scoring.figures import Answered, Figure, count
from toolkit.scoring.metrics import share
from toolkit.tables.claims import AtLeast, Chain, Pair, judge
from toolkit.tables.compare import compare, main
from toolkit.tables.rows import Rows

MakeRow = Callable[..., dict[str, Any]]
Write = Callable[[str, list[dict[str, Any]]], Path]
Wrong = Callable[[str, Seq[int]], Answered]
R = Resampling(500)
WER = Figure.named("wer.seen_wording")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


@pytest.fixture
def wrong(row: MakeRow, write: Write) -> Wrong:
    """Answers with so many words of eight wrong in each of twenty utterances."""

    def make(name: str, errors: Seq[int]) -> Answered:
        rows = [
            row(f"u{number:02d}", "transcribe", " ".join(["x"] * bad + WORDS[bad:]), " ".join(WORDS))
            for number, bad in enumerate(errors)
        ]
        return count({"speech": write(f"{name}/decode/test/speech", rows)}, "none")

    return make


def test_a_system_that_is_worse_by_one_word_everywhere_is_worse_for_sure(wrong: Wrong) -> None:
    found = compare("a", "b", {"a": {1: wrong("a", [0] * 20)}, "b": {1: wrong("b", [1] * 20)}}, R)
    (wer,) = (each for each in found.figures if each.figure.startswith("WER"))
    assert (wer.first, wer.second, wer.better) == (0.0, 12.5, "a")
    apart = wer.difference
    assert (apart.value, apart.low, apart.high, apart.n, apart.utterances) == (-12.5, -12.5, -12.5, 20, 20)
    assert apart.p == pytest.approx(2 / 501, abs=1e-4)  # no resample of 500 is on the other side


def test_pairing_sees_what_single_intervals_do_not(wrong: Wrong) -> None:
    hard = [0, 6] * 10  # half of the utterances are hard for both
    rows = Rows({"a": {1: wrong("a", hard)}, "b": {1: wrong("b", [n + 1 for n in hard])}}, R)
    (holds,) = judge(Chain(("a", "b"), ("wer.seen_wording",)), found_in(rows), R)
    assert (holds.holds, holds.value, holds.intervals_touch) == (True, 12.5, True)
    assert holds.claim == "a > b on WER, seen wordings"
    assert "better by 12.5 [12.5, 12.5], p = 0.004; their own intervals touch (seed 1)" in holds.why


def test_equal_systems_and_systems_that_take_turns_are_not_told_apart(wrong: Wrong) -> None:
    one, other = [1] * 10 + [0] * 10, [0] * 10 + [1] * 10
    rows = Rows({"a": {1: wrong("a", one)}, "b": {1: wrong("b", other)}, "c": {1: wrong("c", one)}}, R)
    turns, same = judge(Chain(("a", "b"), ("wer.seen_wording",)), found_in(rows), R), found_in(rows)("a", WER, "c", WER)
    (verdict,) = turns
    assert (verdict.holds, verdict.value) == (False, 0.0)
    assert "the interval includes 0" in verdict.why
    assert not isinstance(same, str)
    equal = difference(same[0], same[1], R)
    assert (equal.value, equal.low, equal.high, equal.p) == (0.0, 0.0, 0.0, 1.0)


def test_claims_that_do_not_hold_and_that_nobody_can_judge(wrong: Wrong) -> None:
    rows = Rows({"good": {1: wrong("good", [0] * 20)}, "bad": {1: wrong("bad", [2] * 20)}}, R)
    against, unknown = judge(Chain(("bad", "good", "later"), ("wer.seen_wording",)), found_in(rows), R)
    assert (against.holds, against.value, against.intervals_touch) == (False, -25.0, False)
    assert "the interval is all below 0; their own intervals do not touch" in against.why
    assert (unknown.holds, unknown.why) == (None, "later has no answers")


def test_a_figure_is_so_many_times_another(wrong: Wrong) -> None:
    rows = Rows({"a": {1: wrong("a", [1] * 20)}, "b": {1: wrong("b", [2] * 20)}}, R)
    for times, holds in ((0.5, True), (0.51, False)):
        (verdict,) = judge(AtLeast("a", "wer.seen_wording", times, "b", "wer.seen_wording"), found_in(rows), R)
        assert (verdict.holds, verdict.value, verdict.low, verdict.high) == (holds, 0.5, 0.5, 0.5)
    nothing = Rows({"a": {1: wrong("a", [1] * 20)}, "b": {1: wrong("b", [0] * 20)}}, R)
    first, second, _ = nothing.pair("a", WER, "b", WER)
    assert ratio(first, second, R).note == "the other figure is not above 0"


def test_several_seeds_are_one_figure_with_their_spread(wrong: Wrong) -> None:
    seeds = {1: wrong("a1", [0] * 20), 2: wrong("a2", [1] * 20), 3: wrong("a3", [2] * 20)}
    rows = Rows({"a": seeds, "b": {2: wrong("b2", [1] * 20)}}, R)
    cell = rows.cell("a", WER)
    assert (cell.value, cell.n, cell.utterances, cell.extra) == (12.5, 20, 20, "0.0 to 25.0")
    # All utterances are alike, so the whole interval is that of the seeds; one seed alone has none of it.
    assert cell.low is not None
    assert cell.high is not None
    assert 0.0 <= cell.low < 12.5 < cell.high <= 25.0
    assert (rows.cell("b", WER).low, rows.cell("b", WER).high) == (12.5, 12.5)
    # Two systems meet on the seeds that both have.
    first, second, seed = rows.pair("a", WER, "b", WER)
    assert (seed, difference(first, second, R).value) == ("seed 2", 0.0)
    with pytest.raises(DataError, match="have no seed in common"):
        Rows({"a": {1: seeds[1]}, "b": {2: seeds[2]}}, R).pair("a", WER, "b", WER)
    # What is not trained is the same for all of them.
    first, second, seed = Rows({"a": seeds, "b": {9: seeds[2]}}, R, ["b"]).pair("a", WER, "b", WER)
    assert (seed, difference(first, second, R).value) == ("seeds 1, 2, 3", 0.0)


def test_systems_of_the_same_seeds_meet_on_the_same_draws_of_them(wrong: Wrong) -> None:
    # Seeds differ by far, and alike: b is one word worse in each. Only a joint draw sees that.
    levels = {1: 0, 2: 3, 3: 6}
    rows = Rows(
        {name: {seed: wrong(f"{name}{seed}", [bad + more] * 20) for seed, bad in levels.items()}
         for name, more in (("a", 0), ("b", 1))}, R,
    )  # fmt: skip
    first, second, _ = rows.pair("b", WER, "a", WER)
    apart = difference(first, second, R)
    assert (apart.value, apart.low, apart.high) == (12.5, 12.5, 12.5)


def test_one_seed_is_estimated_as_it_always_was() -> None:
    rng = np.random.default_rng(3)
    ids = [f"u{number // 2}" for number in range(60)]
    columns = np.stack([rng.integers(0, 2, 60).astype(float), np.ones(60)], axis=1)
    twice = draw(ids, [columns, columns], share, R).estimate(R)
    assert twice == estimate(ids, columns, share, R)  # two seeds that are the same are as one


def test_other_questions_are_refused(wrong: Wrong, row: MakeRow, write: Write) -> None:
    few = wrong("few", [0] * 19)
    with pytest.raises(DataError, match="'a, seed 1' and 'b, seed 1' answered different questions"):
        compare("a", "b", {"a": {1: wrong("a", [0] * 20)}, "b": {1: few}}, R)
    odd = [row(f"u{n:02d}", "transcribe", "x", "another transcript") for n in range(20)]
    other = count({"speech": write("odd", odd)}, "none")
    with pytest.raises(DataError, match="have a different reference for 20 question"):
        compare("a", "b", {"a": {1: wrong("a", [0] * 20)}, "b": {1: other}}, R)


def test_the_command_compares_experiments_and_writes(
    wrong: Wrong, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong("a", [0] * 20)
    wrong("b", [1] * 20)
    page = tmp_path / "ab.md"
    words = [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100", "--normaliser", "none"]
    assert main([*words, "--out", str(page)], "") == 0
    assert "12.5" in capsys.readouterr().out
    line = next(line for line in page.read_text().splitlines() if line.startswith("| WER"))
    assert line.endswith(r"| 0.0 | 12.5 | -12.5 \[-12.5, -12.5\] | 0.020 | a |")
    assert "Koehn 2004" in page.read_text()
    for bad, message in (
        ([words[0], words[0]], "is compared with itself"),
        ([*words, "--out", "x.txt"], "ends in .md or .json"),
        ([*words[:2], "--resamples", "0"], "at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            main(bad, "")
    with pytest.raises(DataError, match="neither an experiment that was decoded"):
        main([words[0], str(tmp_path / "nowhere")], "")


def test_names_of_figures() -> None:
    assert Figure.named("agreement.held_out_task.title").title == "agreement on title, held-out tasks ↑"
    assert Figure.named("deaf.agreement.seen_wording").title == "deaf: agreement, seen wordings"
    assert Figure.named("loops").title == "loops ↓"
    for name, message in (("bleu.seen_wording", "unknown measure"), ("wer", "is no figure"), ("loops.x", "over all")):
        with pytest.raises(ConfigError, match=message):
            Figure.named(name)


def test_gzipped_answers_are_answers(row: MakeRow, tmp_path: Path) -> None:
    path = tmp_path / "speech.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row("u", "reply", "a", "b")).encode()))
    assert list(read_answers(path)) == [("u", "reply", "reply: {speech}")]
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(path)


def found_in(rows: Rows) -> Callable[[str, Figure, str, Figure], Pair | str]:
    def find(row: str, figure: Figure, other: str, other_figure: Figure) -> Pair | str:
        try:
            return rows.pair(row, figure, other, other_figure)
        except DataError as error:
            return str(error)

    return find
