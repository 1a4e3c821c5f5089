"""Which examples share a step, and in which view: shares, their curriculum and the order of an epoch."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.config import compose_config, save_config
from toolkit.data import order
from toolkit.data.batches import Collator, StepStream
from toolkit.data.order import batch_indices
from toolkit.data.seeding import seeded
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.errors import ConfigError, DataError
from toolkit.interleavers.words import WordsInterleaver
from toolkit.stages import train
from toolkit.types import Example, Plan, SpeechSegment, TextSegment, Word

TEXT = "my aunt speaks to the garden"
WORDS = tuple(Word(text, i / 2, (i + 1) / 2) for i, text in enumerate(TEXT.split()))
EXAMPLES = [Example(f"u{i}", 3.0 + i % 13, TEXT, WORDS, "Say: {speech}", "yes") for i in range(50)]
COSTS = [3 + i % 13 for i in range(50)]


@pytest.fixture(scope="module")
def tokenizer(tiny_llm: Path) -> ChatTokenizer:
    return ChatTokenizer(str(tiny_llm), "")


def collator(tokenizer: ChatTokenizer, shares: Shares) -> Collator:
    words = WordsInterleaver(ratio=0.5)
    return Collator(tokenizer, Views(words, shares, seed=1), lambda name: torch.zeros(4, 2), teacher=True)


def plans(collate: Collator, step: int) -> list[Plan]:
    """Of as many epochs as steps."""
    return [collate.views(example, step, step)[0] for example in EXAMPLES]


def view(plan: Plan) -> str:
    return ("text" if isinstance(plan[0], TextSegment) else "speech") if len(plan) == 1 else "mixed"


def test_without_text_alone_the_plans_are_those_of_one_draw_and_the_interleaver(tokenizer: ChatTokenizer) -> None:
    collate = collator(tokenizer, Shares(speech=0.4))
    for step in range(5):
        for example, plan in zip(EXAMPLES, plans(collate, step), strict=True):
            rng = seeded(1, step, example.id, example.prompt)
            speech = rng.random() < 0.4
            whole = (SpeechSegment(0.0, example.duration),)
            assert plan == (whole if speech else collate.views.interleaver.plan(example, rng))


def test_the_shares_are_kept_and_text_takes_nothing_from_speech(tokenizer: ChatTokenizer) -> None:
    before, after = (
        [p for step in range(40) for p in plans(collator(tokenizer, Shares(0.3, text)), step)] for text in (0.0, 0.3)
    )
    views = [view(plan) for plan in after]
    assert {v: views.count(v) / len(views) for v in set(views)} == pytest.approx(
        {"speech": 0.3, "text": 0.3, "mixed": 0.4}, abs=0.04
    )
    assert [view(p) == "speech" for p in before] == [v == "speech" for v in views]
    assert [b for b, a in zip(before, after, strict=True) if view(a) == "mixed"] == [
        a for a in after if view(a) == "mixed"
    ]


def test_what_is_said_in_each_piece_of_speech(tokenizer: ChatTokenizer) -> None:
    collate = collator(tokenizer, Shares(1.0))
    example = EXAMPLES[0]

    def said(plan: Plan, known: bool = True) -> list[str]:
        utterance = example if known else replace(example, words=())
        spoken = collate.spoken(utterance, [plan], tokenizer.question("{speech}", plan))
        return [tokenizer.decode(tokens) for tokens in spoken]

    whole = (SpeechSegment(0.0, example.duration),)
    assert said(whole) == said(whole, known=False) == [TEXT]
    assert said((TextSegment(TEXT),)) == []
    # Words last half a second each: the middle of `speaks`, 1.25 s, is in the second piece.
    mixed = (SpeechSegment(0.0, 0.9), TextSegment("..."), SpeechSegment(1.1, 2.0), SpeechSegment(2.8, 2.9))
    assert said(mixed) == ["my aunt", "speaks to", ""]
    assert said(mixed, known=False) == ["", "", ""]


def test_a_batch_says_what_is_said_and_what_ends_a_turn(tokenizer: ChatTokenizer) -> None:
    batch = collator(tokenizer, Shares(0.5))(EXAMPLES[:12], 0, 0).to("cpu")
    assert batch.spoken is not None
    assert batch.end_of_turn == tokenizer.end_of_turn
    for sequence, row in zip(batch.sequences, batch.spoken, strict=True):
        pieces = [piece for piece in sequence if isinstance(piece, SpeechSegment)]
        assert len(pieces) == len(row) > 0
        assert all(row)


def test_text_alone_is_read_as_the_teacher_reads_it(tokenizer: ChatTokenizer) -> None:
    batch = collator(tokenizer, Shares(0.0, 1.0))(EXAMPLES[:4], 0, 0)
    assert batch.sequences == batch.teacher_sequences


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.8, 0.3), r"train\.speech_share=0\.8 and train\.text_share=0\.3"),
        ((0.2, 0.3, 0.9), r"train\.speech_share_start=0\.9 and train\.text_share"),
        ((-0.1,), r"train\.speech_share is a share"),
        ((0.1, 1.5), r"train\.text_share is a share"),
        ((0.1, 0.0, 1.5), r"train\.speech_share_start is a share"),
        ((0.1, 0.0, 0.5, -1), r"train\.curriculum_steps"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: tuple[float, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shares(*shares)  # type: ignore[arg-type]


@pytest.mark.parametrize("speech", [i / 100 for i in range(101)])
def test_shares_that_add_up_to_one_are_not_refused_for_their_rounding(speech: float) -> None:
    Shares(speech, 1 - speech)
    Shares(speech, round(1 - speech, 2))


def test_shares_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add up to more than 1"):
        train.run(compose_config([f"exp_dir={tmp_path}", "train.speech_share=0.8", "train.text_share=0.3"]))
    assert list(tmp_path.iterdir()) == []


def test_the_curriculum_is_a_line_and_then_flat() -> None:
    shares = Shares(0.2, start=1.0, steps=4)
    assert [shares.speech_at(step) for step in range(6)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert [Shares(0.2, start=0.0, steps=4).speech_at(step) for step in (0, 2, 4)] == pytest.approx([0.0, 0.1, 0.2])
    assert {Shares(0.2).speech_at(step) for step in range(9)} == {0.2}
    for start, steps in ((1.0, 0), (None, 4)):
        with pytest.raises(ConfigError, match="one is given"):
            Shares(0.2, start=start, steps=steps)


def test_plans_follow_the_curriculum(tokenizer: ChatTokenizer) -> None:
    collate = collator(tokenizer, Shares(0.0, start=1.0, steps=10))
    heard = [sum(view(plan) == "speech" for plan in plans(collate, step)) / len(EXAMPLES) for step in range(12)]
    assert heard[0] == 1.0
    assert heard[10:] == [0.0, 0.0]
    assert heard[5] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("resumed", [4, 9, 17])
def test_a_resumed_stream_with_a_curriculum_goes_on_as_if_it_had_not_been(
    resumed: int, tokenizer: ChatTokenizer
) -> None:
    collate = collator(tokenizer, Shares(0.2, 0.2, start=0.8, steps=12))
    whole, rest = (
        [
            [(b.ids, b.sequences) for b in step]
            for step in StepStream(EXAMPLES, lambda *_: COSTS, collate, 8, 3, (first, 20), seed=1)
        ]
        for first in (0, resumed)
    )
    assert rest == whole[resumed:]


def test_ranks_share_out_the_step_of_one_process(tokenizer: ChatTokenizer) -> None:
    collate = collator(tokenizer, Shares(0.2, 0.2, start=0.8, steps=12))

    def rows(rank: int, world: int) -> list[dict[str, object]]:
        stream = StepStream(EXAMPLES, lambda *_: COSTS, collate, 8, 0, (3, 9), 1, rank, world)
        return [dict(zip(step[0].ids, step[0].sequences, strict=True)) for step in stream]

    assert [a | b for a, b in zip(rows(0, 2), rows(1, 2), strict=True)] == rows(0, 1)


@pytest.mark.parametrize(("size", "first", "last"), [(8, 0, 20), (7, 9, 31), (64, 0, 3)])
def test_the_order_is_that_of_single_steps_and_made_once_an_epoch(
    size: int, first: int, last: int, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    whole = order.epoch_batches

    def counted(costs: list[float], size: int, epoch: int, seed: int) -> list[list[int]]:
        made.append(epoch)
        return whole(costs, size, epoch, seed)

    stream = StepStream(EXAMPLES, lambda *_: COSTS, collator(tokenizer, Shares(1.0)), size, 0, (first, last), seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(order, "epoch_batches", counted)
        found = [batch[0].ids for batch in stream]
    wanted = [batch_indices(COSTS, size, step, 5) for step in range(first, last)]
    assert found == [tuple(EXAMPLES[i].id for i in step) for step in wanted]
    steps = len(EXAMPLES) // min(size, len(EXAMPLES))
    assert made == list(range(first // steps, (last - 1) // steps + 1))


def test_the_order_has_not_changed() -> None:
    """Runs that were begun with an earlier version go on with the batches they would have had."""
    costs = [float(random.Random(i).randrange(90)) for i in range(50)]
    assert [batch_indices(costs, 8, step, 1) for step in (0, 5, 17)] == [
        [31, 43, 2, 49, 32, 14, 28, 1],
        [6, 5, 42, 38, 27, 19, 20, 37],
        [3, 4, 13, 45, 23, 7, 36, 47],
    ]


def test_a_stream_of_nothing_is_an_error(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(DataError, match="imitate stage"):
        next(iter(StepStream([], lambda *_: [], collator(tokenizer, Shares(1.0)), 8, 0, (0, 3), seed=1)))


@pytest.mark.parametrize("key", ["speech_marker", "text_marker"])
def test_other_markers_are_another_training(key: str, tmp_path: Path) -> None:
    before, now = (compose_config([f"exp_dir={tmp_path}", f"{key}={marker}"]) for marker in ("here", "there"))
    (tmp_path / "checkpoint").mkdir()
    save_config(before, tmp_path / "checkpoint" / "config.yaml")
    (tmp_path / "checkpoint" / "done").write_text("")
    train.run(before)
    with pytest.raises(ConfigError, match=rf"{key} \(was here, now there\)"):
        train.run(now)
