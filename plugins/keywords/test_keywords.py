import random

import pytest

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS
from toolkit.registry import load_plugins
from toolkit.testing import check_interleaver
from toolkit.types import Example, Plan, SpeechSegment, TextSegment, Word

TEXT = "my aunt grows tomatoes in a greenhouse"


@pytest.fixture(autouse=True)
def _loaded() -> None:
    assert "toolkit_keywords" in load_plugins(), "not installed: pip install -e plugins/keywords"


def planned(ratio: float, text: str = TEXT, seed: int = 0) -> Plan:
    """Plan `text`, each word half a second with a tenth of a second before the next."""
    words = tuple(Word(word, 0.6 * i, 0.6 * i + 0.5) for i, word in enumerate(text.split()))
    example = Example("one", 0.6 * len(words), text, words)
    return INTERLEAVERS.build({"name": "keywords", "ratio": ratio}).plan(example, random.Random(seed))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.7, 1.0])
def test_keywords_keeps_the_law_of_interleavers(ratio: float) -> None:
    check_interleaver("keywords", ratio=ratio)


def test_the_longest_words_are_read() -> None:
    speech, tomatoes, between, greenhouse = planned(5 / 7)
    assert tomatoes == TextSegment("tomatoes")
    assert greenhouse == TextSegment("greenhouse")
    assert isinstance(speech, SpeechSegment)
    assert isinstance(between, SpeechSegment)
    assert (speech.start, speech.end, between.start, between.end) == pytest.approx((0.0, 1.75, 2.35, 3.55))


def test_ratio_0_is_the_text_view_and_ratio_1_the_speech_view() -> None:
    assert planned(0.0) == (TextSegment(TEXT),)
    (whole,) = planned(1.0)
    assert isinstance(whole, SpeechSegment)
    assert (whole.start, whole.end) == pytest.approx((0.0, 4.2))


def test_chance_decides_between_words_of_one_length() -> None:
    assert len({planned(0.5, "one two six ten", seed) for seed in range(20)}) == 6


def test_punctuation_makes_no_word_longer() -> None:
    assert TextSegment("four") in planned(0.5, "two, four")


def test_without_word_times_the_utterance_stays_speech() -> None:
    interleaver = INTERLEAVERS.build({"name": "keywords"})
    assert interleaver.plan(Example("one", 2.0, TEXT), random.Random(0)) == (SpeechSegment(0.0, 2.0),)


def test_a_share_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"0 to 1, not 1\.5"):
        INTERLEAVERS.build({"name": "keywords", "ratio": 1.5})
