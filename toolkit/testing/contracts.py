"""The law of each kind of part as a function that checks one registered name.

A plugin author calls `check_adapter("mine")`; the project calls each over its whole registry. Every check
names the law that is broken. Options that a part cannot do without are passed as keywords.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.interfaces import (
    ADAPTERS,
    DECODERS,
    ENCODERS,
    INTERLEAVERS,
    LOSSES,
    Adapter,
    TimedAdapter,
    TokenAdapter,
)
from toolkit.types import (
    Example,
    GenerationOptions,
    LossInputs,
    Outputs,
    Padded,
    Quantities,
    SpanOutputs,
    SpeechSegment,
    TextSegment,
    Word,
)

TOLERANCE = 1e-5
LENGTHS = (1, 2, 3, 5, 8, 13, 40)
"""frames of the rows of the test batch; a length of 1 is where most formulas break"""


def check_adapter(name: str, **options: Any) -> None:
    """Check the law of adapters: lengths, padding, neighbours, gradient, determinism and state.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    adapter = _adapter(name, options).eval()
    rows = [torch.randn(n, 12, generator=torch.Generator().manual_seed(n)) for n in LENGTHS]
    together = adapter(Padded.of(rows))
    _law(bool((together.lengths >= 1).all()), name, "every output length is at least 1")
    _law(together.values.shape[2] == 16, name, "outputs have the decoder's width")
    _law(
        together.values.shape[1] == int(together.lengths.max()),
        name,
        "outputs are no longer than the longest row",
    )
    formula = adapter.output_lengths(torch.tensor(LENGTHS))
    if adapter.exact_lengths:
        _law(formula.tolist() == together.lengths.tolist(), name, "output_lengths is the real length")
    else:
        _law(bool((together.lengths <= formula).all()), name, "output_lengths is the most there can be")
    alone = [adapter(Padded.of([row])) for row in rows]
    _same(together.unpad(), [a.unpad()[0] for a in alone], name, "a row does not depend on its neighbours")
    dirty = Padded.of(rows)
    dirty = Padded(torch.where(dirty.mask[..., None], dirty.values, torch.tensor(torch.nan)), dirty.lengths)
    _same(together.unpad(), adapter(dirty).unpad(), name, "what stands in the padding means nothing")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = adapter(Padded.of([rows[i] for i in order])).unpad()
    _same([together.unpad()[i] for i in order], shuffled, name, "the order of rows changes nothing")
    _same(together.unpad(), adapter(Padded.of(rows)).unpad(), name, "evaluation is deterministic")
    if isinstance(adapter, TimedAdapter):
        _check_times(name, adapter, rows)
    adapter.train()
    torch.stack([row.square().sum() for row in adapter(Padded.of(rows)).unpad()]).sum().backward()
    got = [p for p in adapter.parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    _law(len(got) > 0, name, "gradients reach the adapter")
    again = _adapter(name, options).eval()
    again.load_state_dict(adapter.state_dict())
    _same(together.unpad(), again(Padded.of(rows)).unpad(), name, "the state round-trips")


def check_encoder(name: str, **options: Any) -> None:
    """Check the law of encoders: lengths, padding, neighbours.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    encoder = ENCODERS.build({"name": name, **options}).eval()
    generator = torch.Generator().manual_seed(0)
    samples = [int(encoder.sampling_rate * s) for s in (0.11, 0.5, 1.3)]
    rows = [0.1 * torch.randn(n, generator=generator) for n in samples]
    with torch.no_grad():
        together = encoder(Padded.of(rows))
        alone = [encoder(Padded.of([row])).unpad()[0] for row in rows]
    _law(together.values.shape[2] == encoder.output_dim, name, "frames have output_dim values")
    formula = encoder.output_lengths(torch.tensor(samples))
    _law(formula.tolist() == together.lengths.tolist(), name, "output_lengths is the real length")
    for length, row in zip(samples, together.lengths.tolist(), strict=True):
        expected = length / encoder.sampling_rate / encoder.frame_shift
        _law(abs(row - expected) <= 1, name, "lengths agree with frame_shift within a frame")
    _same(together.unpad(), alone, name, "a row does not depend on its neighbours")


def check_decoder(name: str, **options: Any) -> None:
    """Check the law of decoders: a batch gives what each row gives alone, in training and generation.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    decoder = DECODERS.build({"name": name, **options}).eval()
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(2, decoder.vocabulary_size, (n,), generator=generator) for n in (3, 9, 5)]
    rows = [decoder.embed(i) for i in ids]
    positions = [torch.tensor([0, 2]), torch.tensor([8]), torch.tensor([1, 3, 4])]
    with torch.no_grad():
        together = decoder.outputs(rows, positions)
        alone = [decoder.outputs([r], [p]) for r, p in zip(rows, positions, strict=True)]
    _law(together.logits.shape == (6, decoder.vocabulary_size), name, "logits are at the positions asked")
    _same([together.logits], [torch.cat([a.logits for a in alone])], name, "training: a batch is its rows alone")
    _same([together.hidden], [torch.cat([a.hidden for a in alone])], name, "hidden states are too")
    heads = [tuple(range(2, 8)), (2, 3, 5), tuple(range(2, 8))]
    rows = [*rows, *(torch.cat([decoder.embed(torch.tensor(h)), row]) for h, row in zip(heads, rows, strict=True))]
    with torch.no_grad():
        later = [p + len(h) for p, h in zip(positions, heads, strict=True)]
        shared = decoder.outputs(rows[3:], later, heads)
        alone = [decoder.outputs([r], [p]) for r, p in zip(rows[3:], later, strict=True)]
    _same([shared.logits], [torch.cat([a.logits for a in alone])], name, "shared prefixes change nothing")
    generation = GenerationOptions(8, (1,))
    prefixed = decoder.generate(rows[3:], generation, heads)
    _law(prefixed == [decoder.generate([row], generation)[0] for row in rows[3:]], name, "nor in generation")
    tokens = decoder.generate(rows, generation)
    _law(
        tokens == [decoder.generate([row], generation)[0] for row in rows],
        name,
        "generation: a batch is its rows",
    )
    # Training and generation see the same positions: the greedy token of one is the argmax of the other.
    ends = [torch.tensor([len(row) - 1]) for row in rows]
    with torch.no_grad():
        first = decoder.outputs(rows, ends).logits.argmax(-1).tolist()
    for token, answer in zip(first, tokens, strict=True):
        _law(answer[:1] == [token] or token == 1, name, "generation starts where training ends")


def check_interleaver(name: str, **options: Any) -> None:
    """Check the law of interleavers: order, bounds, coverage exactly once, determinism.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    interleaver = INTERLEAVERS.build({"name": name, **options})
    for seed in range(50):
        example = an_example(random.Random(seed))
        plan = interleaver.plan(example, random.Random(seed))
        _law(plan == interleaver.plan(example, random.Random(seed)), name, "the same rng gives the same plan")
        speech = [s for s in plan if isinstance(s, SpeechSegment)]
        _law(all(s.end > s.start for s in speech), name, "speech segments are not empty")
        bounds = [t for s in speech for t in (s.start, s.end)]
        _law(bounds == sorted(bounds), name, "speech segments are in order and do not overlap")
        _law(
            not bounds or (bounds[0] >= 0 and bounds[-1] <= example.duration),
            name,
            "speech is inside the cut",
        )
        said: list[str] = []
        for segment in plan:
            if isinstance(segment, TextSegment):
                said.extend(segment.text.split())
            else:
                said.extend(w.text for w in example.words if segment.start <= (w.start + w.end) / 2 < segment.end)
        _law(said == example.transcript.split(), name, "text and speech cover the transcript exactly once")


def check_loss(name: str, **options: Any) -> None:
    """Check the law of losses: finite sums that split, a gradient, and nothing where nothing is supervised.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    loss = LOSSES.build({"name": name, **options})
    whole = loss_inputs(loss.needs, range(6))
    output = loss(whole)
    _law(bool(torch.isfinite(output.total)), name, "the loss is finite")
    parts = [loss(loss_inputs(loss.needs, rows)) for rows in (range(0, 2), range(2, 6))]
    _law(sum(p.count for p in parts) == output.count, name, "counts add up")
    _same([output.total], [parts[0].total + parts[1].total], name, "a batch split in two sums to the same")
    output.total.backward()
    leaves = [
        *([whole.student.logits] if whole.student else []),
        *([whole.spans.logits.values] if whole.spans else []),
        *([whole.quantities.found] if whole.quantities else []),
    ]
    leaf = leaves[0]
    _law(leaf.grad is not None and bool(leaf.grad.abs().sum() > 0), name, "a gradient comes back")
    nothing = loss(loss_inputs(loss.needs, range(0)))
    _law(
        nothing.count == 0 and float(nothing.total.detach()) == 0.0, name, "no supervised position is a sum of nothing"
    )


def an_example(rng: random.Random) -> Example:
    """Make an utterance of 1 to 12 words with pauses between some of them."""
    words, now = [], rng.uniform(0, 0.3)
    for i in range(rng.randint(1, 12)):
        end = now + rng.uniform(0.05, 0.6)
        words.append(Word(f"word{i}", now, end))
        now = end + rng.choice((0.0, 0.0, rng.uniform(0, 0.4)))
    duration = now + rng.uniform(0, 0.3)
    return Example("utt", duration, " ".join(w.text for w in words), tuple(words))


def loss_inputs(needs: frozenset[str], rows: Seq[int]) -> LossInputs:
    """Make inputs for the given rows: each row is the same whatever it is batched with."""

    def row(seed: int, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    def outputs(offset: int) -> Outputs:
        logits = torch.stack([row(i + offset, 11) for i in rows]) if len(rows) else torch.zeros(0, 11)
        logits = logits.requires_grad_()
        return Outputs(logits, 2 * logits[:, :4])

    spans = None
    if "spans" in needs:
        logits = torch.stack([row(i, 9, 7) for i in rows]) if len(rows) else torch.zeros(0, 9, 7)
        labels = torch.tensor([[1 + i % 6, 1 + (i + 2) % 6] for i in rows], dtype=torch.long).reshape(-1, 2)
        full = torch.full((len(rows),), 9), torch.full((len(rows),), 2)
        aligned = torch.tensor([[(i + j) % 7 for j in range(9)] for i in rows], dtype=torch.long).reshape(-1, 9)
        spans = SpanOutputs(Padded(logits.requires_grad_(), full[0]), Padded(labels, full[1]), aligned)
    quantities = None
    if "quantities" in needs:
        found = torch.tensor([3.3 + i for i in rows], requires_grad=True)
        quantities = Quantities(found, torch.tensor([2 + (2 * i) % 5 for i in rows], dtype=torch.long))
    return LossInputs(
        targets=torch.tensor([i % 11 for i in rows], dtype=torch.long),
        student=outputs(0) if "student" in needs else None,
        teacher=outputs(100) if "teacher" in needs else None,
        spans=spans,
        quantities=quantities,
    )


def _adapter(name: str, options: dict[str, Any]) -> Adapter:
    torch.manual_seed(0)
    adapter = ADAPTERS.build({"name": name, **options}, 12, 16)
    if isinstance(adapter, TokenAdapter):
        adapter.attach(torch.arange(20), torch.randn(20, 16, generator=torch.Generator().manual_seed(1)))
        for parameter in adapter.parameters():  # untrained biases of zero would hide what depends on them
            if parameter.dim() <= 1:
                nn.init.normal_(parameter, std=0.1)
    return adapter


def _check_times(name: str, adapter: TimedAdapter, rows: list[Tensor]) -> None:
    frames = Padded.of(rows)
    embeddings, times = adapter.timed(frames)
    for when, length, count in zip(times, frames.lengths.tolist(), embeddings.lengths.tolist(), strict=True):
        own = when[:count]
        _law(bool((own.diff() >= 0).all()), name, "times do not decrease")
        _law(bool((own >= 0).all()) and bool((own <= length - 1).all()), name, "times lie within the frames")


def _same(left: Seq[Tensor], right: Seq[Tensor], name: str, law: str) -> None:
    for a, b in zip(left, right, strict=True):
        _law(a.shape == b.shape and bool(torch.allclose(a, b, atol=TOLERANCE, rtol=1e-4)), name, law)


_records: list[dict[str, bool]] = []


@contextmanager
def recorded() -> Iterator[dict[str, bool]]:
    """Collect each law that is looked at in the block, in order, and whether it held every time."""
    laws: dict[str, bool] = {}
    _records.append(laws)
    try:
        yield laws
    finally:
        _records.pop()


def _law(holds: bool, name: str, law: str) -> None:
    for laws in _records:
        laws[law] = holds and laws.get(law, True)
    if not holds:
        raise AssertionError(f"'{name}' breaks the law: {law}")
