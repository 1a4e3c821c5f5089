"""Each law of interleavers catches what breaks it, by name."""

from __future__ import annotations

import random

import pytest

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.testing import check_interleaver
from toolkit.types import Example, Plan, SpeechSegment, TextSegment


class Whole(Interleaver):
    """Lawful, and what the others break."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return (SpeechSegment(0.0, example.duration),)


class Forgetful(Whole):
    """Gives a word as text and forgets the rest, where there are no times."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return super().plan(example, rng) if example.words else (TextSegment(example.transcript.split()[-1]),)


class Silent(Whole):
    """Gives nothing where there are no times."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return super().plan(example, rng) if example.words else ()


class Half(Whole):
    """Is all speech for half of its ratio."""

    def __init__(self, *, ratio: float = 0.8) -> None:
        self.ratio = ratio

    def plan(self, example: Example, rng: random.Random) -> Plan:
        share = self.ratio if self.ratio in (0, 1) else self.ratio / 2
        if example.words and rng.random() >= share:
            return (TextSegment(example.transcript),)
        return super().plan(example, rng)


class Deaf(Half):
    """Hears nothing, whatever the ratio."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return (TextSegment(example.transcript),)


class Speaking(Half):
    """Hears everything, whatever the ratio."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return (SpeechSegment(0.0, example.duration),)


class Teaching(Whole):
    """Has its text learnt, asked or not."""

    def __init__(self, *, learn_text: bool = False) -> None:
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        return (TextSegment(example.transcript, True),)


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Forgetful, "without word times what is not read stays speech"),
        (Silent, "without word times what is not read stays speech"),
        (Half, "the share of words that are heard is the ratio"),
        (Deaf, "a ratio of 1 is the speech view"),
        (Speaking, "a ratio of 0 is the text view"),
        (Teaching, "text is learnt if learn_text says so, and only then"),
    ],
)
def test_what_breaks_a_law_is_caught(cls: type[Interleaver], law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INTERLEAVERS._classes, "toy", Whole)
    check_interleaver("toy")
    monkeypatch.setitem(INTERLEAVERS._classes, "toy", cls)
    with pytest.raises(AssertionError, match=f"'toy' breaks the law: {law}"):
        check_interleaver("toy")
