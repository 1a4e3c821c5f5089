"""Word times: two clocks, what fits a transcript, and the files they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data.alignment import (
    cased,
    check_words,
    normal,
    read_ctm,
    read_textgrid,
    spoken_tokens,
    to_cut_clock,
    to_recording_clock,
    with_words,
    words_of,
)
from toolkit.data.cuts import example_of, make_cut
from toolkit.errors import DataError
from toolkit.types import Word

WORDS = (Word("hello", 0.25, 0.5), Word("world", 0.5, 1.0))


def cut_at(start: float, words: tuple[Word, ...] = WORDS) -> Any:
    return make_cut(
        "u", Path("/x.wav"), "Hello world.", sampling_rate=16000, num_samples=16000 * 60, recording="r",
        start=start, duration=1.5, words=words,
    )  # fmt: skip


def test_a_cut_in_mid_recording_keeps_recording_time_inside_and_cut_time_outside() -> None:
    cut = cut_at(12.3)
    items = cut.supervisions[0].alignment["word"]
    assert [(item.symbol, item.start, item.duration) for item in items] == [
        ("hello", 12.55, 0.25),
        ("world", 12.8, 0.5),
    ]
    assert words_of(cut) == WORDS
    assert [word.text for word in example_of(cut).words] == ["Hello", "world."]


def test_lhotse_itself_reads_our_clock_as_it_means_it() -> None:
    """Its own `trim_to_alignments` cuts the recording where the words are, so items are recording times."""
    from lhotse import CutSet

    pieces = list(CutSet.from_cuts([cut_at(12.3)]).trim_to_alignments("word", max_pause=-1.0))
    assert [(round(piece.start, 3), round(piece.duration, 3)) for piece in pieces] == [
        (12.55, 0.25),
        (12.8, 0.5),
    ]


def test_times_follow_when_lhotse_truncates_the_cut() -> None:
    shorter = cut_at(10.0).truncate(offset=0.25, duration=1.25)
    assert words_of(shorter) == (Word("hello", 0.0, 0.25), Word("world", 0.25, 0.75))
    beheaded = cut_at(10.0).truncate(offset=0.6, duration=0.9)
    assert example_of(beheaded).words == ()  # its first words lie before the cut: plain speech


@given(start=st.floats(0, 5000), words=st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 3)), max_size=9))
def test_the_two_clocks_are_inverse(start: float, words: list[tuple[float, float]]) -> None:
    before = tuple(Word("w", a, a + b) for a, b in words)
    after = to_cut_clock(to_recording_clock(before, start), start)
    for one, other in zip(before, after, strict=True):
        assert (other.start, other.end) == pytest.approx((one.start, one.end), abs=3e-6)


def test_silences_are_no_words() -> None:
    from lhotse.supervision import AlignmentItem

    items = [AlignmentItem(symbol, 0.0, 1.0) for symbol in ("", "SIL", "<eps>", "word")]
    assert [word.text for word in to_cut_clock(items, 0.0)] == ["word"]


def test_with_words_replaces_and_says_by_whom() -> None:
    cut = with_words(cut_at(3.0), (), "ctm")
    assert words_of(cut) == ()
    assert cut.supervisions[0].custom == {"word_times": "ctm"}


def test_check_gives_the_transcripts_own_spelling() -> None:
    found = (Word("ITS", 0.1, 0.2), Word("o'clock", 0.2, 0.4), Word("now", 0.4, 0.6))
    checked = check_words("It's - o'clock, now!", found, 1.0)
    assert checked is not None
    assert " ".join(word.text for word in checked) == "It's - o'clock, now!"
    assert [(word.start, word.end) for word in checked] == [(0.1, 0.2), (0.2, 0.4), (0.4, 0.6)]


@pytest.mark.parametrize(
    ("transcript", "found", "what"),
    [
        ("hello", WORDS, "a word too many"),
        ("hello there world", WORDS, "a word too few"),
        ("hello word", WORDS, "another word"),
        ("world hello", WORDS, "another order"),
        ("", (), "nothing said"),
        ("...", (), "only punctuation"),
        ("hello world", (Word("hello", 0.0, 0.5), Word("world", 0.4, 1.0)), "an overlap of 0.1 s"),
        ("hello world", (Word("hello", -0.06, 0.5), Word("world", 0.5, 1.0)), "a start before the cut"),
        ("hello world", (Word("hello", 0.0, 0.5), Word("world", 0.5, 1.56)), "an end after the cut"),
        ("hello world", (Word("hello", 0.0, 0.5), Word("world", 0.5, 0.5)), "no length"),
        ("hello world", (Word("hello", 0.5, 0.2), Word("world", 0.5, 1.0)), "a negative length"),
        ("hello world", (Word("hello", float("nan"), 0.2), Word("world", 0.5, 1.0)), "no number"),
        ("hello world", (Word("hello", 0.1, 0.2), Word("world", 0.5, float("inf"))), "no end"),
    ],
)
def test_unusable(transcript: str, found: tuple[Word, ...], what: str) -> None:
    assert check_words(transcript, found, 1.5) is None, what


def test_rounding_is_clamped() -> None:
    found = (Word("a", -0.04, 0.5), Word("b", 0.46, 1.0), Word("c", 1.0, 1.54))
    assert check_words("a b c", found, 1.5) == (Word("a", 0.0, 0.5), Word("b", 0.5, 1.0), Word("c", 1.0, 1.5))


texts = st.lists(st.text("aé'!-, .B7", min_size=1, max_size=5), min_size=1, max_size=8).map(" ".join)
times = st.lists(st.tuples(st.floats(-0.1, 3.2), st.floats(-0.1, 3.2)), min_size=8, max_size=8)


@given(transcript=texts, spans=times)
@settings(max_examples=300)
def test_whatever_passes_is_usable(transcript: str, spans: list[tuple[float, float]]) -> None:
    tokens = spoken_tokens(transcript)
    found = tuple(Word(normal(token), a, b) for token, (a, b) in zip(tokens, sorted(spans), strict=False))
    checked = check_words(transcript, found, 3.0)
    if checked is not None:
        assert " ".join(word.text for word in checked) == " ".join(transcript.split())
        edges = [edge for word in checked for edge in (word.start, word.end)]
        assert edges == sorted(edges)
        assert all(word.start < word.end for word in checked)
        assert edges[0] >= 0
        assert edges[-1] <= 3.0
        assert check_words(transcript, checked, 3.0) == checked


@given(transcript=texts)
def test_even_times_always_pass(transcript: str) -> None:
    tokens = spoken_tokens(transcript)
    found = [Word(token.upper(), i / len(tokens), (i + 1) / len(tokens)) for i, token in enumerate(tokens)]
    assert (check_words(transcript, found, 1.0) is not None) == bool(tokens)


@pytest.mark.parametrize(
    ("text", "case", "expected"),
    [
        ("WHAT  DO I\tKNOW", "keep", "WHAT DO I KNOW"),
        ("WHAT DO I KNOW", "lower", "what do i know"),
        ("WHAT DO I KNOW", "sentence", "What do I know."),
        ("I'M SURE I'LL TELL JIM I DID IT", "sentence", "I'm sure I'll tell jim I did it."),
        ('"HELLO THERE!"', "sentence", '"Hello there!"'),
        ("WHO IS IT?", "sentence", "Who is it?"),
        ("", "sentence", ""),
    ],
)
def test_case(text: str, case: str, expected: str) -> None:
    assert cased(text, case) == expected


def test_ctm(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(";; comment\nu1 1 0.10 0.25 hello\nu1 1 0.35 0.30 world 0.98\n\nu2 A 0 1 <eps>\nu2 A 1 0.5 x\n")
    assert read_ctm(path) == {
        "u1": [Word("hello", 0.1, 0.35), Word("world", 0.35, 0.65)],
        "u2": [Word("x", 1.0, 1.5)],
    }


@pytest.mark.parametrize("line", ["u1 1 0.1 0.2", "u1 1 zero 0.2 word"])
def test_broken_ctm(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.ctm").write_text(f"u0 1 0 1 fine\n{line}\n")
    with pytest.raises(DataError, match=r"a.ctm, line 2: .* is not 'utterance channel start duration word'"):
        read_ctm(tmp_path / "a.ctm")


def test_missing_ctm(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the word times"):
        read_ctm(tmp_path / "a.ctm")


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "TextTier"
        name = "notes 2"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.7
            mark = "a ""click"" at 0.7"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "HH"
    item [3]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "sil"
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "hello"
        intervals [3]:
            xmin = 0.5
            xmax = 1.5e0
            text = "20"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
1
"IntervalTier"
"speaker 1"
0
1.5
3
0
0.25
""
0.25
0.5
"hello"
0.5
1.5
"20"
"""


@pytest.mark.parametrize("content", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrid(tmp_path: Path, content: str, encoding: str) -> None:
    (tmp_path / "a.TextGrid").write_text(content, encoding=encoding)
    assert read_textgrid(tmp_path / "a.TextGrid") == [Word("hello", 0.25, 0.5), Word("20", 0.5, 1.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "not a TextGrid"),
        ("ooBinaryFile\x08TextGrid", "not a TextGrid"),
        (SHORT[: SHORT.index('"hello"')], "ends early"),
        (LONG[: LONG.index("    item [2]")].replace("size = 3", "size = 1", 1), "no interval tier"),
    ],
)
def test_broken_textgrid(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.TextGrid").write_text(content)
    with pytest.raises(DataError, match=message):
        read_textgrid(tmp_path / "a.TextGrid")
