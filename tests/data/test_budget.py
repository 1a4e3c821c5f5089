"""Batches by cost: every example once an epoch, no batch above its budget, the same order after a resume."""

import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.adapters.ctc import CTCAdapter
from toolkit.adapters.stack import StackAdapter
from toolkit.data.budget import POOL, Budget, CostOrder, evened, filled, padded_cost, shared
from toolkit.data.costs import heard_of, row_costs
from toolkit.data.order import StepOrder, epoch_batches, turns
from toolkit.data.tokenization import ChatTokenizer
from toolkit.encoders.whisper import WhisperEncoder
from toolkit.errors import DataError
from toolkit.interfaces import Adapter, Encoder
from toolkit.plan.librispeech_like import durations
from toolkit.types import Example, SpeechSegment, TokenPiece, Turn

COSTS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@settings(max_examples=200)
@given(
    costs=COSTS, step=st.integers(0, 900), forward=st.integers(0, 400), size=st.integers(1, 20),
    world=st.integers(1, 5), workers=st.integers(1, 4), seed=st.integers(0, 99), resumed=st.integers(0, 150),
)  # fmt: skip
def test_every_example_comes_once_an_epoch_within_its_budget(
    costs: list[int], step: int, forward: int, size: int, world: int, workers: int, seed: int, resumed: int
) -> None:
    budget = Budget(step, forward) if step or forward else None

    def make() -> StepOrder:
        return StepOrder(len(costs), lambda *_: costs, size * world, 0, seed, budget)

    order = make()
    for epoch in (0, 1):
        steps = order.steps_of(epoch)
        made = [s for worker in range(workers) for s in turns((steps.start, steps.stop), worker, workers)]
        assert sorted(made) == list(steps)
        seen = []
        for number in made:
            rows = order.rows(number)
            ranks = [order(number, rank, world) for rank in range(world)]
            had = [row for shares in ranks for share in shares if not share.idle for row in share.rows]
            assert sorted(had) == sorted(rows)
            seen += had
            if budget is None:
                continue
            assert len({len(shares) for shares in ranks}) == 1
            assert all(share.rows for shares in ranks for share in shares)
            assert not step or len(rows) == 1 or padded_cost(costs, rows) <= step
            for share in (share for shares in ranks for share in shares):
                assert not forward or len(share.rows) == 1 or padded_cost(costs, share.rows) <= forward
        left_over = 0 if step else len(costs) % min(size * world, len(costs))
        assert len(seen) == len(set(seen)) == len(costs) - left_over
    # Whoever begins later asks for a later step first.
    again = make()
    assert [again(resumed + i, 0, world) for i in range(3)] == [order(resumed + i, 0, world) for i in range(3)]


@settings(max_examples=100)
@given(costs=st.lists(st.integers(1, 40), min_size=1, max_size=9), parts=st.integers(1, 6))
def test_rows_are_cut_as_evenly_as_can_be(costs: list[int], parts: int) -> None:
    ordered = sorted(range(len(costs)), key=lambda row: costs[row])
    batches = evened(costs, ordered, parts)
    assert [row for batch in batches for row in batch] == ordered
    assert len(batches) == min(parts, len(costs))
    best = min(
        max(padded_cost(costs, ordered[a:b]) for a, b in zip([0, *cuts], [*cuts, len(costs)], strict=True) if a < b)
        for cuts in product(range(len(costs) + 1), repeat=parts - 1)
        if list(cuts) == sorted(cuts)
    ) if parts < 5 else 0  # fmt: skip
    assert parts >= 5 or max(padded_cost(costs, batch) for batch in batches) == best


def test_a_row_above_the_budget_is_alone() -> None:
    costs = [5, 900, 6, 7, 30]
    assert filled(costs, [0, 2, 3, 4, 1], 21) == [[0, 2, 3], [4], [1]]
    assert {(1,), (4,)} < {tuple(step) for step in CostOrder(5, lambda *_: costs, 21, 1).epoch(0)}


def test_a_rank_without_rows_runs_those_of_another_in_vain() -> None:
    ranks = shared([4, 9], [0, 1], 3)
    assert sorted((tuple(share.rows), share.idle) for (share,) in ranks) == [((0,), False), ((0,), True), ((1,), False)]


def test_forward_passes_are_cut_where_that_spares_padding() -> None:
    costs = [1000] * 4 + [20] * 40
    ((first, second),) = shared(costs, range(44), 1)
    assert sorted((len(first.rows), len(second.rows))) == [4, 40]
    assert len(shared([100] * 40, range(40), 1)[0]) == 1


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="no training examples"):
        CostOrder(0, lambda *_: [], 100, 1)


@pytest.mark.parametrize("rate", [12.5, 6.25, 3.5])
@pytest.mark.parametrize(("rows", "world"), [(16, 1), (32, 1), (32, 2), (256, 1), (256, 8)])
def test_little_of_batches_like_librispeech_is_padding(rate: float, rows: int, world: int) -> None:
    rng = random.Random(1)
    # Embeddings, a prompt of 40 tokens, and the transcript at 3.5 tokens a second, more or less, as the answer.
    costs = [round(rate * s) + 40 + round(3.5 * s * rng.uniform(0.8, 1.2)) for s in durations(6000, random.Random(0))]
    budget = Budget(round(rows * sum(costs) / len(costs)))
    order = StepOrder(len(costs), lambda *_: costs, rows, 0, 1, budget)
    ran = [s.rows for step in order.steps_of(0) for rank in range(world) for s in order(step, rank, world)]
    assert 1 - sum(costs) / sum(padded_cost(costs, batch) for batch in ran) <= 0.03
    by_rows = epoch_batches(costs, rows, 0, 1)
    real, padded = (sum(costs[i] for b in by_rows for i in b), sum(padded_cost(costs, b) for b in by_rows))
    assert 1 - real / padded > 0.03
    # Steps are as full as their budget lets them be, and mates change from epoch to epoch.
    assert len(order.steps_of(0)) <= 1.06 * sum(costs) / budget.step + 1
    first, second = ({tuple(sorted(order.rows(s))) for s in order.steps_of(epoch)} for epoch in (0, 1))
    assert len(costs) < POOL * rows or not first & second


def costs_of(
    examples: list[Example], encoder: Encoder, adapter: Adapter, tokenizer: ChatTokenizer | None, **about: Any
) -> list[int]:
    heard = heard_of(examples, encoder, adapter, tokenizer, answers=True)
    return row_costs(examples, heard, tokenizer, **about)


def test_a_row_costs_what_it_is_long(tiny_llm: Path, tiny_whisper: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "Be brief.")
    encoder = WhisperEncoder(model=str(tiny_whisper), window="true_length")
    examples = [
        Example("a", 2.3, "My aunt speaks.", prompt="Say: {speech}", response="Well then, she speaks."),
        Example("b", 0.7, "She sells.", prompt="{speech} Why?", response="For money", response_complete=False),
        Example("c", 1.0, "So.", prompt="{speech} And {speech2}?", response="No.", others=(Example("b", 0.7, "She"),)),
    ]
    stack = StackAdapter(encoder.output_dim, 8)

    def length(example: Example, speech: list[int]) -> int:
        row = tokenizer.sequence(example, *((SpeechSegment(0, said.duration),) for said in example.utterances))
        return sum(len(p.token_ids) for p in row if isinstance(p, TokenPiece)) + sum(speech)

    def heard(example: Example) -> list[int]:
        samples = torch.tensor([round(said.duration * encoder.sampling_rate) for said in example.utterances])
        lengths: list[int] = stack.output_lengths(encoder.output_lengths(samples)).tolist()
        return lengths

    found = costs_of(examples, encoder, stack, tokenizer)
    assert found == pytest.approx([length(example, heard(example)) for example in examples], abs=4)
    # What stands before the speech is run once for all rows that open so.
    rows = [tokenizer.sequence(e, *((SpeechSegment(0, u.duration),) for u in e.utterances)) for e in examples]
    openings = [len(row[0].token_ids) if isinstance(row[0], TokenPiece) else 0 for row in rows]
    rest = costs_of(examples, encoder, stack, tokenizer, opened=True)
    assert [whole - own for whole, own in zip(found, rest, strict=True)] == pytest.approx(openings, abs=2)
    # Tokens come of what is said, and of no more frames than there are.
    ctc = CTCAdapter(encoder.output_dim, 8, hidden_dim=8, heads=2)
    said = [[len(tokenizer.transcript(u.transcript)) for u in example.utterances] for example in examples]
    found = costs_of(examples, encoder, ctc, tokenizer)
    assert found == pytest.approx([length(e, s) for e, s in zip(examples, said, strict=True)], abs=6)
    # Without a decoder speech is all; without a tokenizer four characters are a token.
    assert heard_of(examples, encoder, stack, None, answers=False) == [heard(e) for e in examples]
    assert costs_of(examples[:1], encoder, stack, None) == [sum(heard(examples[0])) + 30 + 2 + 6 + 1]
    assert costs_of([Example("d", 1.0, "So")], encoder, stack, None, unknown=24)[0] > 24 + 30
    turned = Example("e", 1.0, "So", history=(Turn("What is that?", "A cat."),))
    assert costs_of([turned], encoder, stack, tokenizer) > costs_of(
        [Example("e", 1.0, "So")], encoder, stack, tokenizer
    )
    # Earlier turns open a row whether speech comes in them or after them.
    late = Example("e", 1.0, "So", prompt="And {speech}?", history=(Turn("What is that?", "A cat."),))
    early = Example("e", 1.0, "So", prompt="And?", history=(Turn("What is {speech}?", "A cat."),))
    bare = Example("e", 1.0, "So", prompt="{speech}?")
    costs = {e: costs_of([e], encoder, stack, tokenizer, opened=True)[0] for e in (late, early, bare)}
    assert costs[late] == pytest.approx(costs[bare], abs=2)
    assert costs[early] > costs[late] + tokenizer.around()[0]
    assert costs_of([], encoder, stack, tokenizer, opened=True) == []
