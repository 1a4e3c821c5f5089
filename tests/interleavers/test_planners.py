"""Whatever is drawn, a plan gives every word exactly once, in order, and as much speech as was asked for.

For every registered interleaver, those of plugins included, with any of their options.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.config import load_parts
from toolkit.data.seeding import seeded
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.alternating import AlternatingInterleaver
from toolkit.interleavers.sentences import SentencesInterleaver, sentences_of
from toolkit.interleavers.text import TextInterleaver
from toolkit.interleavers.uniform import UniformInterleaver, estimated_words
from toolkit.interleavers.whole import WholeInterleaver
from toolkit.registry import keyword_parameters
from toolkit.types import Example, Plan, Sequence, SpeechSegment, TextSegment, TokenPiece, Word

load_parts()

NAMES = list(INTERLEAVERS)
MIXING = [name for name in NAMES if name not in ("text", "whole")]
SHARED = [name for name in NAMES if "ratio" in keyword_parameters(INTERLEAVERS[name])]
"""those that have a share of speech to keep"""
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
_tokenizers: dict[str, ChatTokenizer] = {}


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


VALUES: dict[str, st.SearchStrategy[object]] = {
    "ratio": ratios,
    "learn_text": st.booleans(),
    "length": lengths,
    "mean": st.floats(0.1, 20),
    "speech_words": lengths,
    "text_words": lengths,
    "estimate": st.sampled_from(("missing", "always")),
    "marks": st.sampled_from((".", ".!?…。", ".,")),
    "first": st.sampled_from(("random", "speech", "text")),
}
"""option -> what is drawn for it; an option that is not here keeps its default"""


def planner(name: str, **given: object) -> st.SearchStrategy[Interleaver]:
    """An interleaver with any of its options, but for those that are given."""
    drawn = {
        key: st.just(given[key]) if key in given else VALUES[key]
        for key in keyword_parameters(INTERLEAVERS[name])
        if key in VALUES or key in given
    }
    return st.fixed_dictionaries(drawn).map(lambda options: INTERLEAVERS.build({"name": name, **options}))


any_planner = st.sampled_from(NAMES).flatmap(planner)
alternations = st.builds(
    AlternatingInterleaver,
    speech_words=lengths,
    text_words=lengths,
    first=st.sampled_from(("random", "speech", "text")),
    learn_text=st.booleans(),
)


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


def test_there_are_interleavers_to_look_at() -> None:
    built_in = {"alternating", "poisson", "sentences", "spans", "text", "uniform", "whole", "words"}
    assert built_in <= set(NAMES)
    assert {"words", "spans", "poisson", "sentences", "uniform"} <= set(SHARED)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), example=examples(), seed=seeds)
def test_every_word_is_given_once_and_in_order(name: str, data: st.DataObject, example: Example, seed: int) -> None:
    interleaver = data.draw(planner(name))
    plan = interleaver.plan(example, random.Random(seed))
    pieces = as_text(plan, clock(interleaver, example))
    assert " ".join(piece.text for piece in pieces) == example.transcript
    assert all(piece.text for piece in pieces)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), example=examples(), seed=seeds)
def test_speech_is_ordered_apart_and_inside_the_cut(
    name: str, data: st.DataObject, example: Example, seed: int
) -> None:
    plan = data.draw(planner(name)).plan(example, random.Random(seed))
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


@given(any_planner, examples(), seeds)
def test_a_seed_is_a_plan(interleaver: Interleaver, example: Example, seed: int) -> None:
    assert interleaver.plan(example, random.Random(seed)) == interleaver.plan(example, random.Random(seed))


@pytest.mark.parametrize("name", SHARED)
@given(data=st.data(), ratio=ratios, example=examples(), seed=seeds)
def test_the_ratio_is_met(name: str, data: st.DataObject, ratio: float, example: Example, seed: int) -> None:
    interleaver = data.draw(planner(name, ratio=ratio))
    words = clock(interleaver, example)
    missed = share(interleaver.plan(example, random.Random(seed)), words) - ratio * len(words)
    if isinstance(interleaver, SentencesInterleaver):
        assert abs(missed) <= max(len(sentence) for sentence in sentences_of(words, interleaver.marks))
    else:
        assert abs(missed) < 1


@given(st.data(), examples(), ratios, seeds)
def test_the_ratio_is_met_on_average(data: st.DataObject, example: Example, ratio: float, seed: int) -> None:
    name = data.draw(st.sampled_from(("spans", "poisson", "sentences", "uniform")))  # others round the same way always
    interleaver, rng = INTERLEAVERS.build({"name": name, "ratio": ratio}), random.Random(seed)
    plans = [interleaver.plan(example, rng) for _ in range(300)]
    mean = sum(share(plan, example.words) for plan in plans) / 300 / len(example.words)
    assert mean == pytest.approx(ratio, abs=0.17)  # 0.5 / sqrt(300) is 0.03 at the worst


@given(alternations, examples(), seeds)
def test_alternation_meets_its_share_to_within_a_run(
    interleaver: AlternatingInterleaver, example: Example, seed: int
) -> None:
    speech, text = interleaver.speech_words, interleaver.text_words
    heard_words = share(interleaver.plan(example, random.Random(seed)), example.words)
    missed = heard_words - speech / (speech + text) * len(example.words)
    assert abs(missed) <= speech * text / (speech + text) + 1e-9


@pytest.mark.parametrize("name", SHARED)
@given(data=st.data(), example=examples(), seed=seeds)
def test_ratio_0_is_the_text_view_and_1_the_speech_view(
    name: str, data: st.DataObject, example: Example, seed: int
) -> None:
    rng = random.Random(seed)
    text = data.draw(planner(name, ratio=0.0, learn_text=False))
    assert text.plan(example, rng) == TextInterleaver().plan(example, rng)
    speech = data.draw(planner(name, ratio=1.0))
    assert speech.plan(example, rng) == WholeInterleaver().plan(example, rng)


def test_alternation_with_nothing_is_one_of_the_two_views() -> None:
    example, rng = Example("u", 2.0, "a b", (Word("a", 0.0, 1.0), Word("b", 1.0, 2.0))), random.Random(0)
    assert AlternatingInterleaver(speech_words=0).plan(example, rng) == TextInterleaver().plan(example, rng)
    assert AlternatingInterleaver(text_words=0).plan(example, rng) == WholeInterleaver().plan(example, rng)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "text"])
@given(data=st.data(), example=examples(), seed=seeds)
def test_without_word_times_an_utterance_stays_speech(
    name: str, data: st.DataObject, example: Example, seed: int
) -> None:
    interleaver = data.draw(planner(name))
    blind = replace(example, words=())
    plan = interleaver.plan(blind, random.Random(seed))
    if isinstance(interleaver, UniformInterleaver):
        words = estimated_words(example.transcript, example.duration)
        assert " ".join(piece.text for piece in as_text(plan, words)) == example.transcript
        blind = replace(blind, transcript="")
        plan = interleaver.plan(blind, random.Random(seed))
    assert plan == (SpeechSegment(0.0, example.duration),)


@pytest.mark.parametrize("name", MIXING)
@given(learn=st.booleans(), data=st.data(), example=examples(), seed=seeds)
def test_text_is_learnt_where_it_is_asked_for(
    name: str, learn: bool, data: st.DataObject, example: Example, seed: int
) -> None:
    assert "learn_text" in keyword_parameters(INTERLEAVERS[name])
    plan = data.draw(planner(name, learn_text=learn)).plan(example, random.Random(seed))
    assert {segment.supervised for segment in plan if isinstance(segment, TextSegment)} <= {learn}


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), example=examples(), seed=seeds)
def test_pieces_of_a_plan_give_the_tokens_of_the_whole(
    name: str, data: st.DataObject, example: Example, seed: int, tiny_llm: Path
) -> None:
    prompt = data.draw(st.sampled_from(("Repeat: {speech}", "{speech}", "Text: {speech}\nWhat is it?")))
    tokenizer = _tokenizers.setdefault("", ChatTokenizer(str(tiny_llm), ""))
    interleaver = data.draw(planner(name))
    pieces = as_text(interleaver.plan(example, random.Random(seed)), clock(interleaver, example))
    whole = (TextSegment(example.transcript),)
    assert tokens(tokenizer.question(prompt, pieces)) == tokens(tokenizer.question(prompt, whole))


@pytest.mark.parametrize("name", MIXING)
@given(data=st.data(), example=examples(), seed=seeds)
def test_a_marker_stands_at_every_switch_of_a_mixed_plan(
    name: str, data: st.DataObject, example: Example, seed: int, tiny_llm: Path
) -> None:
    plain = _tokenizers.setdefault("", ChatTokenizer(str(tiny_llm), ""))
    marked = _tokenizers.setdefault(
        "marked", ChatTokenizer(str(tiny_llm), "", speech_marker="<speech>", text_marker="<text>")
    )
    plan = data.draw(planner(name)).plan(example, random.Random(seed))
    rows = [tokenizer.question("Say: {speech}", plan) for tokenizer in (plain, marked)]
    if len(plan) == 1:
        assert rows[0] == rows[1]
        return
    inner = rows[1][1:-1]
    markers = {SpeechSegment: plain.encode(" <speech>"), TextSegment: plain.encode(" <text>")}
    assert inner[0::2] == tuple(TokenPiece(markers[type(segment)]) for segment in plan)
    assert inner[1::2] == rows[0][1:-1]


@pytest.mark.parametrize("name", NAMES)
def test_every_interleaver_has_its_share_by_curriculum(name: str) -> None:
    """All plain speech at first; in the end what the interleaver says, of what is left beside text alone."""
    words = tuple(Word(f"word{i}", i / 2, i / 2 + 0.5) for i in range(20))
    example = Example("u", 10.0, " ".join(word.text for word in words), words)
    interleaver = INTERLEAVERS.build({"name": name})
    shares = Shares(0.0, 0.25, start=0.75, steps=10)
    draw = Views(interleaver, shares, seed=1)
    views: dict[int, list[Plan]] = {step: [draw(example, i, step)[0] for i in range(400)] for step in (0, 5, 10)}
    speech, text = WholeInterleaver().plan(example, random.Random(0)), TextInterleaver().plan(example, random.Random(0))
    assert {plan for plan in views[0]} <= {speech, text}
    for step, expected in ((0, 0.75), (5, 0.375), (10, 0.0)):
        rngs = [seeded(1, i, "u", example.prompt) for i in range(400)]
        draws = [rng.random() for rng in rngs]
        plain = [plan for plan, draw in zip(views[step], draws, strict=True) if draw < expected]
        assert plain == [speech] * len(plain)
        assert len(plain) / 400 == pytest.approx(expected, abs=0.08)
        alone = [p for p, draw in zip(views[step], draws, strict=True) if expected <= draw < expected + 0.25]
        assert alone == [text] * len(alone)
        rest = [(p, rng) for p, draw, rng in zip(views[step], draws, rngs, strict=True) if draw >= expected + 0.25]
        assert [p for p, _ in rest] == [interleaver.plan(example, rng) for _, rng in rest]


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
        *(({"name": name, "ratio": 1.5}, "ratio is the share") for name in SHARED),
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
