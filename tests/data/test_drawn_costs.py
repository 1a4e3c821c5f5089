"""What is drawn of a row is known before batches are made: its cost is what it is long, and order and draws agree."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.config import load_parts
from toolkit.data.batches import Collator, StepStream
from toolkit.data.budget import Budget
from toolkit.data.costs import heard_of, row_costs
from toolkit.data.drawn_costs import DrawnCosts
from toolkit.data.order import StepOrder
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.interfaces import INTERLEAVERS
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.types import Example, Sequence, SpeechSegment, Word

load_parts()
TEXT = "my aunt speaks of the garden and of the sea and of nothing else at all"
WORDS = tuple(Word(text, 0.4 * i, 0.4 * i + 0.35) for i, text in enumerate(TEXT.split()))
EXAMPLES = [
    Example(f"u{i}", 0.4 * n, " ".join(word.text for word in WORDS[:n]), WORDS[:n], "Say: {speech}", "yes " * (i % 5))
    for i, n in enumerate([4 + i % 12 for i in range(60)])
]
SHARES = Shares(0.4, 0.2)


@pytest.fixture(scope="module")
def tokenizer(tiny_llm: Path) -> ChatTokenizer:
    return ChatTokenizer(str(tiny_llm), "")


def model_of(adapter: str, cut: str, tiny_llm: Path, tiny_whisper: Path) -> SpeechLLM:
    encoder = {"name": "whisper", "model": str(tiny_whisper), "window": "true_length"}
    sizes = {"hidden_dim": 8, **({"heads": 2} if adapter == "ctc" else {})}
    decoder = {"name": "causal_lm", "model": str(tiny_llm)}
    return build_model(encoder, {"name": adapter, **sizes}, decoder, cut, 1).eval()


def costs_of(model: SpeechLLM, tokenizer: ChatTokenizer | None, views: Views) -> DrawnCosts:
    parts = model.encoder, model.adapter, tokenizer
    heard = heard_of(EXAMPLES, *parts, answers=True)
    plain = row_costs(EXAMPLES, heard, tokenizer, opened=True)
    return DrawnCosts(EXAMPLES, plain, heard, *parts, views, model.cut)


@pytest.mark.parametrize("name", ["words", "spans", "alternating", "text"])
@pytest.mark.parametrize(("adapter", "cut"), [("stack", "frames"), ("stack", "embeddings"), ("stack", "audio")])
@pytest.mark.parametrize("marked", [False, True])
def test_a_row_costs_what_is_drawn_of_it(
    name: str, adapter: str, cut: str, marked: bool, tiny_llm: Path, tiny_whisper: Path
) -> None:
    markers = {"speech_marker": "<speech>", "text_marker": "<text>"} if marked else {}
    tokenizer = ChatTokenizer(str(tiny_llm), "", **markers)
    model = model_of(adapter, cut, tiny_llm, tiny_whisper)
    views = Views(INTERLEAVERS.build({"name": name}), SHARES, seed=1)
    costs = costs_of(model, tokenizer, views)
    plain = costs.plain
    found = costs(2, 0)
    samples = [torch.zeros(round(example.duration * model.encoder.sampling_rate)) for example in EXAMPLES]
    collate = Collator(tokenizer, views, lambda i: samples[int(i[1:])], teacher=False, audio=True)
    with torch.no_grad():
        for place in range(0, len(EXAMPLES), 20):
            batch = collate(EXAMPLES[place : place + 20], 2, 7)
            rows = model.rows(model.speech(batch), batch.sequences, batch.recordings)
            lengths = [len(row.embeddings) - len(row.prefix) for row in rows]
            # A piece may be one embedding longer or shorter than its time says.
            for length, cost, sequence in zip(lengths, found[place:], batch.sequences, strict=False):
                pieces = sum(isinstance(piece, SpeechSegment) for piece in sequence)
                assert abs(length - cost) <= 2 + (pieces if pieces > 1 else 0)
    # As plain speech rows would be reckoned far off.
    assert max(whole - drawn for whole, drawn in zip(plain, found, strict=True)) > 20


def test_tokens_of_speech_and_of_text_are_those_of_the_transcript(
    tokenizer: ChatTokenizer, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of("ctc", "embeddings", tiny_llm, tiny_whisper)
    views = Views(INTERLEAVERS.build({"name": "words"}), SHARES, seed=1)
    costs = costs_of(model, tokenizer, views)
    for epoch in range(3):
        assert any(len(views(example, epoch, 0)[0]) > 1 for example in EXAMPLES)
        assert max(abs(drawn - whole) for drawn, whole in zip(costs(epoch, 0), costs.plain, strict=True)) <= 2


def test_without_a_tokenizer_characters_are_read(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", "frames", tiny_llm, tiny_whisper)
    alone = costs_of(model, None, Views(INTERLEAVERS.build({"name": "text"}), Shares(0.0), seed=1))(0, 0)
    for row, example in enumerate(EXAMPLES):
        assert alone[row] == 30 - 25 + -(-len(example.transcript) // 4) + -(-len(example.response) // 4) + 1


def test_draws_are_of_the_seed_the_epoch_and_the_example_alone() -> None:
    views = Views(INTERLEAVERS.build({"name": "words"}), SHARES, seed=1)
    first = [views(example, 0, 0) for example in EXAMPLES]
    assert first == [views(example, 0, 999) for example in reversed(EXAMPLES)][::-1]
    assert first != [views(example, 1, 0) for example in EXAMPLES]
    assert first != [replace(views, seed=2)(example, 0, 0) for example in EXAMPLES]


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.0, 1.0), (0.3, 0.6)])
def test_under_a_curriculum_no_row_costs_more_than_is_reckoned(
    start: float, end: float, tokenizer: ChatTokenizer, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of("stack", "frames", tiny_llm, tiny_whisper)
    shares = Shares(end, start=start, steps=12)
    views = Views(INTERLEAVERS.build({"name": "words"}), shares, seed=1)
    costs, asked = costs_of(model, tokenizer, views), set[tuple[int, int]]()

    def reckoned(epoch: int, step: int) -> Seq[int]:
        asked.add((epoch, step))
        return costs(epoch, step)

    order = StepOrder(len(EXAMPLES), reckoned, 8, 0, 1, Budget(400))
    epochs = [order.steps_of(epoch) for epoch in range(3)]
    assert epochs[1].start < shares.steps < epochs[2].start
    for epoch, steps in enumerate(epochs):
        for step in steps:
            order(step)
            fixed = replace(views, shares=Shares(shares.speech_at(step)))
            real = costs_of(model, tokenizer, fixed)(epoch, step)
            assert all(one <= most for one, most in zip(real, order.costs(epoch), strict=True))
    assert list(costs(2, epochs[2].start)) == real  # when it has ended, no more than that either
    assert asked == {(epoch, steps.start) for epoch, steps in enumerate(epochs)}


@pytest.mark.parametrize("budget", [None, Budget(500), Budget(0, 200), Budget(500, 200)])
@pytest.mark.parametrize("curriculum", [False, True])
def test_who_begins_where_and_with_whom_changes_nothing(
    budget: Budget | None, curriculum: bool, tokenizer: ChatTokenizer, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of("stack", "frames", tiny_llm, tiny_whisper)
    shares = Shares(0.2, 0.2, start=0.8, steps=12) if curriculum else SHARES
    views = Views(INTERLEAVERS.build({"name": "words"}), shares, seed=1)
    collate = Collator(tokenizer, views, lambda _: torch.zeros(4, 2), teacher=False)

    def steps(first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Sequence]]:
        costs = costs_of(model, tokenizer, views)
        stream = StepStream(EXAMPLES, costs, collate, 8, 0, (first, 25), 1, rank, world, budget)
        for batches in stream:
            counted = [batch for batch in batches if not batch.idle]
            yield {name: row for b in counted for name, row in zip(b.ids, b.sequences, strict=True)}

    whole = list(steps(0))
    assert len({name for step in whole for name in step}) == len(EXAMPLES)
    assert list(steps(17)) == whole[17:]
    ranks = [list(steps(3, rank, 2)) for rank in range(2)]
    assert [a | b for a, b in zip(*ranks, strict=True)] == whole[3:]
