from __future__ import annotations

import pytest

from toolkit.errors import UnknownNameError
from toolkit.scoring.normalisation import NORMALISERS, normaliser


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " The  cat,\nsat. ", "The cat, sat."),
        ("basic", "The cat, sat.", "the cat sat"),
        ("basic", "Don’t 'quote' rock-n-roll…", "don't quote rock n roll"),
        ("basic", "...", ""),
        ("english", "Mr. Brown isn't twenty-one.", "mister brown is not 21"),
        ("english", "the colour", "the colour"),  # the spelling table is not packaged, as the name says
    ],
)
def test_normalisers(name: str, text: str, expected: str) -> None:
    assert normaliser(name).apply(text) == expected


@pytest.mark.parametrize("name", NORMALISERS)
def test_normalisers_are_idempotent_on_plain_text_and_name_themselves(name: str) -> None:
    chosen = normaliser(name)
    once = chosen.apply("Hello there, old friend!")
    assert chosen.apply(once) == once
    assert chosen.description.startswith(name)


def test_unknown_normaliser() -> None:
    with pytest.raises(UnknownNameError, match="basic, english, none"):
        normaliser("whisper")
