"""Progress bars: the time left is that of the whole run, and what an earlier run has done costs none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from toolkit.stages import progress
from toolkit.stages.progress import bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one: seconds."""
    now = [1000.0]
    monkeypatch.setattr("toolkit.stages.progress.time.monotonic", lambda: now[0])
    return now


def test_a_log_tells_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with bar("table", 8, done=2) as shown:
        shown.advance(0)
        clock[0] += 3600
        shown.advance(note="b begins")
        shown.advance()  # ended together with the last: no reason to think that the rest will take no time
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "  table: 2/8"
    assert second == "  table: 3/8 5:00:00 left b begins"  # one in an hour, five to go
    assert third == "  table: 4/8 2:00:00 left"  # two in an hour, four to go


def test_a_log_says_a_line_each_tenth(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with bar("encode", 1000) as shown:
        for _ in range(1000):
            clock[0] += 0.1
            shown.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "  encode: 1/1000 0:01:40 left"
    assert lines[-1].startswith("  encode: 90")


def test_a_terminal_shows_the_same(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=drawn, force_terminal=True, width=120))
    with bar("align train", 30, done=10) as shown:
        clock[0] += 60
        shown.advance(10)
    assert "align train" in drawn.getvalue()
    assert "20/30" in drawn.getvalue()
    assert "0:01:00 left" in drawn.getvalue()
