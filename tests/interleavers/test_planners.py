"""Whatever is drawn, a plan gives every word exactly once, in order, and as much speech as was asked for."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.alternating import AlternatingInterleaver
from toolkit.interleavers.poisson import PoissonInterleaver
from toolkit.interleavers.sentences import SentencesInterleaver, sentences_of
from toolkit.interleavers.spans import SpansInterleaver
from toolkit.interleavers.text import TextInterleaver
from toolkit.interleavers.uniform import UniformInterleaver, estimated_words
from toolkit.interleavers.whole import WholeInterleaver
from toolkit.interleavers.words import WordsInterleaver
from toolkit.testing import check_interleaver
from toolkit.types import Example, Plan, Sequence, SpeechSegment, TextSegment, TokenPiece, Word

NAMES = ("alternating", "poisson", "sentences", "spans", "uniform", "words")
VOCABULARY = (
    "I",
    "isn't",
    "über",
    "a",
    "tomatoes,",
    "Stop.",
    "why?",
    '"Yes!"',
    "3.5",
    "x-ray",
    "don't…",
    "–",
    "東京。",
)

ratios = st.sampled_from((0.0, 1.0)) | st.floats(0, 1)
seeds = st.integers(0, 2**32)
lengths = st.integers(1, 12)
_tokenizers: dict[Path, ChatTokenizer] = {}


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Utterances of 1 to 40 words, with pauses between some of them."""
    words: list[Word] = []
    now = draw(st.floats(0, 0.5))
    for text in draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=40)):
        end = now + draw(st.floats(0.01, 0.9))
        words.append(Word(text, now, end))
        now = end + draw(st.just(0.0) | st.floats(0, 0.5))
    return Example("u", now + draw(st.floats(0, 0.5)), " ".join(word.text for word in words), tuple(words))


def planners(ratio: st.SearchStrategy[float], learn: st.SearchStrategy[bool]) -> st.SearchStrategy[Interleaver]:
    """Every planner that has a ratio, with any of its options."""
    spans = {"ratio": ratio, "length": lengths, "learn_text": learn}
    return st.one_of(
        st.builds(WordsInterleaver, ratio=ratio, learn_text=learn),
        st.builds(SpansInterleaver, **spans),
        st.builds(PoissonInterleaver, ratio=ratio, mean=st.floats(0.1, 20), learn_text=learn),
        st.builds(SentencesInterleaver, ratio=ratio, marks=st.sampled_from((".", ".!?…。", ".,")), learn_text=learn),
        st.builds(UniformInterleaver, **spans, estimate=st.sampled_from(("missing", "always"))),
    )


alternations = st.builds(
    AlternatingInterleaver,
    speech_words=lengths,
    text_words=lengths,
    first=st.sampled_from(("random", "speech", "text")),
    learn_text=st.booleans(),
)
any_planner = planners(ratios, st.booleans()) | alternations


def clock(interleaver: Interleaver, example: Example) -> tuple[Word, ...]:
    """The words as the interleaver times them."""
    if isinstance(interleaver, UniformInterleaver) and (interleaver.estimate == "always" or not example.words):
        return estimated_words(example.transcript, example.duration)
    return example.words


def heard(segment: SpeechSegment, words: tuple[Word, ...]) -> list[str]:
    return [word.text for word in words if segment.start <= (word.start + word.end) / 2 < segment.end]


def share(plan: Plan, words: tuple[Word, ...]) -> int:
    return sum(len(heard(segment, words)) for segment in plan if isinstance(segment, SpeechSegment))


def as_text(plan: Plan, words: tuple[Word, ...]) -> tuple[TextSegment, ...]:
    """The plan with what is heard written out."""
    return tuple(
        TextSegment(" ".join(heard(segment, words))) if isinstance(segment, SpeechSegment) else segment
        for segment in plan
    )


def tokens(row: Sequence) -> list[int]:
    return [t for piece in row if isinstance(piece, TokenPiece) for t in piece.token_ids]


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name: str) -> None:
    check_interleaver(name)


@settings(deadline=None)
@given(any_planner, examples(), seeds)
def test_every_word_is_given_once_and_in_order(interleaver: Interleaver, example: Example, seed: int) -> None:
    plan = interleaver.plan(example, random.Random(seed))
    pieces = as_text(plan, clock(interleaver, example))
    assert " ".join(piece.text for piece in pieces) == example.transcript
    assert all(piece.text for piece in pieces)


@settings(deadline=None)
@given(any_planner, examples(), seeds)
def test_speech_is_ordered_apart_and_inside_the_cut(interleaver: Interleaver, example: Example, seed: int) -> None:
    plan = interleaver.plan(example, random.Random(seed))
    kinds = [type(segment) for segment in plan]
    assert all(a is not b for a, b in pairwise(kinds)), "neighbours of one kind are one segment"
    speech = [segment for segment in plan if isinstance(segment, SpeechSegment)]
    bounds = [t for segment in speech for t in (segment.start, segment.end)]
    assert all(segment.start < segment.end for segment in speech)
    assert bounds == sorted(bounds)
    assert all(0 <= t <= example.duration for t in bounds)
    if kinds[0] is SpeechSegment:
        assert bounds[0] == 0
    if kinds[-1] is SpeechSegment:
        assert bounds[-1] == example.duration


@settings(deadline=None)
@given(any_planner, examples(), seeds)
def test_a_seed_is_a_plan(interleaver: Interleaver, example: Example, seed: int) -> None:
    assert interleaver.plan(example, random.Random(seed)) == interleaver.plan(example, random.Random(seed))


@settings(deadline=None)
@given(planners(ratios, st.booleans()), examples(), seeds)
def test_the_ratio_is_met(interleaver: Interleaver, example: Example, seed: int) -> None:
    words = clock(interleaver, example)
    assert isinstance(
        interleaver,
        WordsInterleaver | SpansInterleaver | PoissonInterleaver | SentencesInterleaver | UniformInterleaver,
    )
    missed = share(interleaver.plan(example, random.Random(seed)), words) - interleaver.ratio * len(words)
    if isinstance(interleaver, SentencesInterleaver):
        assert abs(missed) <= max(len(sentence) for sentence in sentences_of(words, interleaver.marks))
    else:
        assert abs(missed) < 1


@settings(deadline=None)
@given(st.data(), examples(), seeds)
def test_the_ratio_is_met_on_average(data: st.DataObject, example: Example, seed: int) -> None:
    kind = data.draw(st.sampled_from((SpansInterleaver, PoissonInterleaver, SentencesInterleaver, UniformInterleaver)))
    ratio = data.draw(ratios)
    rng = random.Random(seed)
    plans = [kind(ratio=ratio).plan(example, rng) for _ in range(300)]
    mean = sum(share(plan, example.words) for plan in plans) / 300 / len(example.words)
    assert mean == pytest.approx(ratio, abs=0.17)  # 0.5 / sqrt(300) is 0.03 at the worst


@settings(deadline=None)
@given(alternations, examples(), seeds)
def test_alternation_meets_its_share_to_within_a_run(
    interleaver: AlternatingInterleaver, example: Example, seed: int
) -> None:
    speech, text = interleaver.speech_words, interleaver.text_words
    heard_words = share(interleaver.plan(example, random.Random(seed)), example.words)
    missed = heard_words - speech / (speech + text) * len(example.words)
    assert abs(missed) <= speech * text / (speech + text) + 1e-9


@settings(deadline=None)
@given(planners(st.just(0.0), st.just(False)), examples(), seeds)
def test_ratio_0_is_the_text_view(interleaver: Interleaver, example: Example, seed: int) -> None:
    rng = random.Random(seed)
    assert interleaver.plan(example, rng) == TextInterleaver().plan(example, rng)
    assert AlternatingInterleaver(speech_words=0).plan(example, rng) == TextInterleaver().plan(example, rng)


@settings(deadline=None)
@given(planners(st.just(1.0), st.booleans()), examples(), seeds)
def test_ratio_1_is_the_speech_view(interleaver: Interleaver, example: Example, seed: int) -> None:
    rng = random.Random(seed)
    assert interleaver.plan(example, rng) == WholeInterleaver().plan(example, rng)
    assert AlternatingInterleaver(text_words=0).plan(example, rng) == WholeInterleaver().plan(example, rng)


@settings(deadline=None)
@given(any_planner, examples(), seeds)
def test_without_word_times_an_utterance_stays_speech(interleaver: Interleaver, example: Example, seed: int) -> None:
    blind = replace(example, words=())
    plan = interleaver.plan(blind, random.Random(seed))
    if isinstance(interleaver, UniformInterleaver):
        words = estimated_words(example.transcript, example.duration)
        assert " ".join(piece.text for piece in as_text(plan, words)) == example.transcript
        blind = replace(blind, transcript="")
        plan = interleaver.plan(blind, random.Random(seed))
    assert plan == (SpeechSegment(0.0, example.duration),)


@settings(deadline=None)
@given(st.booleans(), st.data(), examples(), seeds)
def test_text_is_learnt_where_it_is_asked_for(learn: bool, data: st.DataObject, example: Example, seed: int) -> None:
    interleaver = data.draw(planners(ratios, st.just(learn)))
    plan = interleaver.plan(example, random.Random(seed))
    assert {segment.supervised for segment in plan if isinstance(segment, TextSegment)} <= {learn}


@settings(deadline=None)
@pytest.mark.parametrize("prompt", ["Repeat: {speech}", "{speech}", "Text: {speech}\nWhat is it?"])
@given(interleaver=any_planner, example=examples(), seed=seeds)
def test_pieces_of_a_plan_give_the_tokens_of_the_whole(
    prompt: str, interleaver: Interleaver, example: Example, seed: int, tiny_llm: Path
) -> None:
    tokenizer = _tokenizers.setdefault(tiny_llm, ChatTokenizer(str(tiny_llm), ""))
    pieces = as_text(interleaver.plan(example, random.Random(seed)), clock(interleaver, example))
    whole = (TextSegment(example.transcript),)
    assert tokens(tokenizer.question(prompt, pieces)) == tokens(tokenizer.question(prompt, whole))


def test_learnt_text_is_supervised_in_the_training_row(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    words = tuple(Word(text, i / 2, i / 2 + 0.5) for i, text in enumerate(("she", "sells", "sea", "shells.")))
    example = Example("u", 2.0, "she sells sea shells.", words, "Say: {speech}", "yes")
    planner = AlternatingInterleaver(speech_words=2, text_words=2, first="speech", learn_text=True)
    row = tokenizer.sequence(example, planner.plan(example, random.Random(0)))
    learnt = [tokenizer.decode(piece.token_ids) for piece in row if isinstance(piece, TokenPiece) and piece.supervised]
    assert learnt == ["sea shells.", "yes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"name": name, "ratio": 1.5}, "ratio is the share") for name in NAMES if name != "alternating"),
        ({"name": "spans", "ratio": float("nan")}, "ratio is the share"),
        ({"name": "spans", "length": 0}, "length is a number of words"),
        ({"name": "uniform", "length": 0}, "length is a number of words"),
        ({"name": "uniform", "estimate": "never"}, "one of missing, always"),
        ({"name": "poisson", "mean": 0.0}, "more than 0"),
        ({"name": "poisson", "mean": float("nan")}, "more than 0"),
        ({"name": "sentences", "marks": ""}, "is empty"),
        ({"name": "alternating", "speech_words": 0, "text_words": 0}, "not both 0"),
        ({"name": "alternating", "speech_words": -1}, "0 or more"),
        ({"name": "alternating", "first": "music"}, "one of random, speech, text"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        INTERLEAVERS.build(options)
