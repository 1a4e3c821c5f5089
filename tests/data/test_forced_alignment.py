"""Forced alignment: pronunciations of new words, and that nothing is placed where it is not said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.forced_alignment import Piece, _decoder, align_piece, dictionary_key, pronounce

PHONES = frozenset(
    "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()  # noqa: SIM905 -- easier to read
    + "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()  # noqa: SIM905
)
DICTIONARY = {
    "well": "W EH L", "known": "N OW N", "beggar": "B EH G ER", "hope": "HH OW P", "judge": "JH AH JH",
    "cat": "K AE T", "villainy": "V IH L AH N IY", "rain": "R EY N", "bow": "B OW", "dwell": "D W EH L",
}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("cat", "K AE T"),
        ("well-known", "W EH L N OW N"),
        ("beggar's", "B EH G ER Z"),
        ("cat's", "K AE T S"),
        ("judge's", "JH AH JH AH Z"),
        ("cats", "K AE T S"),
        ("hoping", "HH OW P IH NG"),
        ("villainies", "V IH L AH N IY Z"),
        ("dwelleth", "D W EH L AH TH"),
        ("rainbow", "R EY N B OW"),
        ("texel", "T EH K S EH L"),
        ("knight", "N AY T"),
        ("phage", "F EY JH"),
        ("chelmon", "CH EH L M AA N"),
        ("1994", None),
        ("mp3", None),
        ("'", None),
        ("", None),
        ("привет", None),
        ("x-1", None),
    ],
)
def test_pronounce(word: str, phones: str | None) -> None:
    assert pronounce(word, DICTIONARY.get) == phones


@given(word=st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=15).filter(lambda w: w.strip("'")))
def test_every_word_of_letters_has_a_pronunciation_that_pocketsphinx_takes(word: str) -> None:
    phones = pronounce(word, DICTIONARY.get)
    assert phones
    assert set(phones.split()) <= PHONES


@pytest.mark.parametrize(
    ("token", "key"),
    [
        ("Hello,", "hello"),
        ("“It’s", "it's"),
        ("Café!", "cafe"),
        ("well-known.", "well-known"),
        ("dogs'", "dogs"),
    ],
)
def test_dictionary_key(token: str, key: str) -> None:
    assert dictionary_key(token) == key


def piece(folder: Path, text: str, seconds: float = 1.0) -> Piece:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise, 16000)
    return Piece("u", str(folder / "noise.wav"), 0.0, seconds, text)


@pytest.mark.parametrize("text", ["Hello world.", "A", "The chelmon of Dykvelt, and more than one second can hold."])
def test_noise_is_not_taken_for_words(tmp_path: Path, text: str) -> None:
    found = align_piece(piece(tmp_path, text))
    assert found.words == ()
    assert found.reason == "where pocketsphinx does not hear the transcript"


def test_new_words_are_added_to_the_decoder(tmp_path: Path) -> None:
    assert _decoder().lookup_word("dykvelt") in (None, "D IY K V EH L T")
    align_piece(piece(tmp_path, "Dykvelt"))
    assert _decoder().lookup_word("dykvelt") == "D IY K V EH L T"


def test_numbers_stay_plain(tmp_path: Path) -> None:
    assert align_piece(piece(tmp_path, "In 1994.")).reason == "with a word that has no letters to pronounce"


def test_bad_audio_is_a_reason(tmp_path: Path) -> None:
    assert align_piece(Piece("u", str(tmp_path / "gone.wav"), 0.0, 1.0, "Hello")).reason == "missing audio"


def test_a_decoder_that_fails_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _decoder()

    def fail(*_: object) -> None:
        raise RuntimeError("Failed to set up alignment")

    with monkeypatch.context() as patch:
        patch.setattr("toolkit.data.forced_alignment._segments", fail)
        assert align_piece(piece(tmp_path, "Hello")).reason == "refused by pocketsphinx"
    assert _decoder() is not before
