from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.compute import score
from toolkit.scoring.curves import draw, read_log
from toolkit.scoring.report import mark, write_report

Systems = Callable[..., dict[str, Path]]
EVIL = '<script>alert("x & y")</script>'
VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def log(path: Path) -> None:
    lines = [
        {
            "phase": "warm_start",
            "step": 10,
            "seconds": 30,
            "loss": 2.5,
            "learning_rate": 1e-3,
            "parts": {"ctc": 2.5},
        },
        {
            "phase": "warm_start",
            "step": 20,
            "seconds": 60,
            "loss": 2.0,
            "learning_rate": 5e-4,
            "parts": {"ctc": 2.0},
        },
        {"phase": "warm_start", "step": 20, "seconds": 60, "validation": {"loss": 1.9, "wer": 40.2}},
        {"phase": "imitation", "step": 10, "seconds": 30, "loss": 3.0, "parts": {"$a_<b>$": 1.0, "kl": 2.0}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')


@pytest.fixture
def page(systems: Systems, tmp_path: Path) -> str:
    card = score(systems(spoil=EVIL, kind=EVIL), resampling=Resampling(20))
    log(tmp_path / "train_log.jsonl")
    return write_report(tmp_path, f"exp {EVIL}", card).read_text()


def test_page_is_well_formed_escaped_and_needs_nothing_else(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert {"table", "svg", "mark", "article", "figure"} <= checker.seen
    assert not checker.seen & {"script", "link", "img", "iframe"}
    assert not re.search(r'(?:src|href)="(?!#)(?!http://www\.w3\.org|https://matplotlib)', page)
    assert "@import" not in page
    assert "url(http" not in page


def test_page_without_a_log_says_so(systems: Systems, tmp_path: Path) -> None:
    page = write_report(tmp_path, "exp", score(systems(), resampling=Resampling(20))).read_text()
    assert "There are no training curves" in page
    assert "<svg" not in page


def test_log_is_read_by_phase(tmp_path: Path) -> None:
    log(tmp_path / "log")
    warm, imitation = read_log(tmp_path / "log")
    assert (warm.name, warm.last, warm.seconds) == ("warm_start", 20, 60)
    assert warm.series["loss"] == {10: 2.5, 20: 2.0}
    assert warm.series["validation/wer"] == {20: 40.2}
    assert set(imitation.series) == {"loss", "parts/$a_<b>$", "parts/kl"}
    assert read_log(tmp_path / "nothing") == []


def test_going_back_to_an_earlier_step_voids_what_followed(tmp_path: Path) -> None:
    steps = [(10, 5.0), (20, 4.0), (30, 3.0), (20, 4.5)]
    (tmp_path / "log").write_text("".join(json.dumps({"step": s, "loss": x}) + "\n" for s, x in steps))
    (phase,) = read_log(tmp_path / "log")
    assert phase.series["loss"] == {10: 5.0, 20: 4.5}


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"loss": 1}', '{"step": 1, "loss": "low"}'])
def test_broken_log_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(DataError, match="log:2 is not a line of a training log"):
        read_log(tmp_path / "log")


def test_curves_take_the_ink_of_the_page_and_are_the_same_each_time(tmp_path: Path) -> None:
    log(tmp_path / "log")
    warm, imitation = read_log(tmp_path / "log")
    drawn = draw(warm), draw(imitation)
    assert drawn[0] == draw(warm)
    assert all(svg.startswith("<svg") and "currentColor" in svg for svg in drawn)
    clips = [set(re.findall(r'clipPath id="(\w+)"', svg)) for svg in drawn]
    assert clips[0]
    assert not clips[0] & clips[1]


def test_marked_words() -> None:
    assert mark("The cat sat", "the cat sat.") == "The cat sat"
    assert mark("a <big> cat", "a cat") == "a <mark>&lt;big&gt;</mark> cat"
    assert mark("a dog", "a cat") == "a <del>cat</del> <mark>dog</mark>"
    assert mark("", "a") == '<span class="empty">(empty)</span> <del>a</del>'
