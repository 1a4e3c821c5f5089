"""How many words are heard and where, and what each planner makes of an utterance one can check by hand."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.interleavers.alternating import AlternatingInterleaver
from toolkit.interleavers.example import example, sample
from toolkit.interleavers.poisson import PoissonInterleaver
from toolkit.interleavers.runs import fixed_runs, heard_count, plan_runs, scatter
from toolkit.interleavers.sentences import SentencesInterleaver, sentences_of
from toolkit.interleavers.spans import SpansInterleaver
from toolkit.interleavers.uniform import UniformInterleaver, estimated_words
from toolkit.interleavers.words import WordsInterleaver
from toolkit.types import Example, SpeechSegment, TextSegment, Word


def counted(count: int) -> Example:
    """An utterance of `count` words of half a second, back to back."""
    words = tuple(Word(f"word{i}", i / 2, (i + 1) / 2) for i in range(count))
    return Example("u", count / 2, " ".join(word.text for word in words), words)


@pytest.mark.parametrize(("ratio", "count"), [(0.3, 4), (0.5, 1), (0.1, 3), (0.0, 7), (1.0, 7)])
def test_the_count_is_right_on_average_in_short_utterances_too(ratio: float, count: int) -> None:
    rng = random.Random(0)
    drawn = [heard_count(ratio, count, rng) for _ in range(4000)]
    assert max(drawn) - min(drawn) <= 1
    assert sum(drawn) / 4000 == pytest.approx(ratio * count, abs=0.03)


def test_what_does_not_fill_a_run_is_a_shorter_run() -> None:
    assert fixed_runs(12, 5) == [5, 5, 2]
    assert fixed_runs(10, 5) == [5, 5]
    assert fixed_runs(3, 5) == [3]
    assert fixed_runs(0, 5) == []


@given(st.lists(st.integers(1, 6), max_size=6), st.integers(0, 30), st.integers(0, 2**32))
def test_runs_lie_apart_where_there_is_room(runs: list[int], read: int, seed: int) -> None:
    count = sum(runs) + read
    heard = scatter(runs, count, random.Random(seed))
    assert len(heard) == sum(runs)
    assert all(0 <= index < count for index in heard)
    ends = [index for index in heard if index + 1 not in heard]
    found = sorted(next(n for n in range(1, count + 1) if end - n not in heard) for end in ends)
    if len(runs) <= read + 1:
        assert found == sorted(runs)


def test_runs_can_be_everywhere() -> None:
    rng = random.Random(0)
    assert {min(scatter([3], 10, rng)) for _ in range(200)} == set(range(8))


def test_a_run_reaches_to_the_middle_of_the_pauses_and_to_the_ends_of_the_cut() -> None:
    words = (Word("a", 0.5, 1.0), Word("b", 1.5, 2.0), Word("c", 2.0, 2.5))
    assert plan_runs(words, 3.0, {1}) == (TextSegment("a"), SpeechSegment(1.25, 2.0), TextSegment("c"))
    assert plan_runs(words, 3.0, {0, 2}) == (SpeechSegment(0.0, 1.25), TextSegment("b"), SpeechSegment(2.0, 3.0))
    assert plan_runs(words, 3.0, {0}, learn_text=True) == (SpeechSegment(0.0, 1.25), TextSegment("b c", True))
    assert plan_runs(words, 3.0, {0, 1, 2}) == plan_runs((), 3.0, set()) == (SpeechSegment(0.0, 3.0),)


def test_words_plans_what_it_has_always_planned() -> None:
    """Runs are repeated from their seed, so the words drawn for a seed must not change."""
    assert WordsInterleaver().plan(counted(6), random.Random(1)) == (
        SpeechSegment(0.0, 1.0), TextSegment("word2 word3"), SpeechSegment(2.0, 2.5), TextSegment("word5"),
    )  # fmt: skip


def test_spans_are_of_one_length_but_for_the_rest() -> None:
    plan = SpansInterleaver(ratio=0.4, length=3).plan(counted(20), random.Random(0))
    seconds = sorted(segment.end - segment.start for segment in plan if isinstance(segment, SpeechSegment))
    assert seconds == [1.0, 1.5, 1.5]  # 8 words of half a second: 2, 3 and 3


def test_poisson_lengths_have_the_mean_that_was_asked_for() -> None:
    planner, rng = PoissonInterleaver(mean=10.0), random.Random(0)
    drawn = [planner._length(1000, rng) for _ in range(3000)]
    mean = sum(drawn) / len(drawn)
    assert mean == pytest.approx(10, abs=0.3)
    assert sum((n - mean) ** 2 for n in drawn) / len(drawn) == pytest.approx(10, abs=1)
    assert min(PoissonInterleaver(mean=0.1)._length(5, rng) for _ in range(50)) == 1
    assert max(planner._length(5, rng) for _ in range(50)) == 5


def test_alternation_is_strict() -> None:
    planner = AlternatingInterleaver(speech_words=2, text_words=1, first="speech")
    assert planner.plan(counted(5), random.Random(0)) == (
        SpeechSegment(0.0, 1.0), TextSegment("word2"), SpeechSegment(1.5, 2.5),
    )  # fmt: skip
    planner = AlternatingInterleaver(speech_words=2, text_words=1, first="text")
    assert planner.plan(counted(5), random.Random(0)) == (
        TextSegment("word0"), SpeechSegment(0.5, 1.5), TextSegment("word3"), SpeechSegment(2.0, 2.5),
    )  # fmt: skip
    begun = [AlternatingInterleaver().plan(counted(5), random.Random(seed))[0] for seed in range(40)]
    assert {type(segment) for segment in begun} == {SpeechSegment, TextSegment}


def test_sentences_end_at_punctuation() -> None:
    texts = ("He", "said:", '"Wait!"', "At", "3.5", "km,", "why?", "No", "end")
    words = [Word(text, 0, 1) for text in texts]
    assert sentences_of(words) == [range(0, 3), range(3, 7), range(7, 9)]
    assert sentences_of(words, ".,:!?") == [range(0, 2), range(2, 3), range(3, 6), range(6, 7), range(7, 9)]
    assert sentences_of(words[:3]) == [range(0, 3)]
    assert sentences_of(()) == []


def test_sentences_are_heard_or_read_whole() -> None:
    utterance, rng = sample(), random.Random(0)
    sentences = sentences_of(utterance.words)
    texts = {" ".join(utterance.words[i].text for i in sentence) for sentence in sentences}
    assert len(texts) == 4
    for _ in range(50):
        for segment in SentencesInterleaver(ratio=0.5).plan(utterance, rng):
            if isinstance(segment, TextSegment):
                assert set(re.split(r"(?<=[.?]) ", segment.text)) <= texts


def test_time_is_guessed_from_letters() -> None:
    assert estimated_words("isn't a – tree.", 2.0) == (
        Word("isn't", 0.0, 0.8), Word("a", 0.8, 1.0), Word("–", 1.0, 1.2), Word("tree.", 1.2, 2.0),
    )  # fmt: skip
    assert estimated_words(" ", 2.0) == ()


def test_uniform_prefers_true_times_unless_told_otherwise() -> None:
    utterance = sample()
    blind = Example("u", utterance.duration, utterance.transcript)
    plans = [
        UniformInterleaver(estimate=estimate).plan(given, random.Random(0))
        for estimate in ("missing", "always")
        for given in (utterance, blind)
    ]
    assert plans[0] == SpansInterleaver().plan(utterance, random.Random(0))
    assert plans[1] == plans[2] == plans[3] != plans[0]


def test_an_example_can_be_read() -> None:
    shown = example(AlternatingInterleaver(speech_words=20, text_words=20, first="speech", learn_text=True))
    lines = shown.splitlines()
    assert lines[0] == "30 words in 9.44 s; (heard), read"
    assert lines[1].startswith("  speech   0.00 to ")
    assert "(Good morning. My aunt" in lines[1]
    assert lines[2].startswith("  text   learnt ")
    assert lines[2].endswith(" Do you know what they cost? I never asked.")
    assert lines[3] == "the same utterance without word times"
    assert lines[4].startswith("  speech   0.00 to  9.44 s  (Good morning.")
