"""The laws of encoders and adapters: lengths, and that batch, padding and order change nothing."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.interfaces import (
    ADAPTERS,
    ENCODERS,
    Adapter,
    CountingAdapter,
    Encoder,
    TimedAdapter,
    TokenAdapter,
)
from toolkit.testing.laws import (
    DETERMINISM,
    LENGTH,
    NEIGHBOURS,
    ORDER,
    PADDING,
    SHORTEST,
    STATE,
    law,
    refuses_unknown_keys,
    same,
)
from toolkit.types import Padded

LENGTHS = (1, 2, 3, 5, 8, 13, 40)
"""frames of the rows of the test batch; a length of 1 is where most formulas break"""
LONGER = (41, 64, 257, 750)
"""frames of rows that are run for their length alone"""


def check_adapter(name: str, **options: Any) -> None:
    """Check the law of adapters: lengths, padding, neighbours, gradient, determinism and state.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    refuses_unknown_keys(ADAPTERS, name)
    adapter = _adapter(name, options).eval()
    rows = [torch.randn(n, 12, generator=torch.Generator().manual_seed(n)) for n in LENGTHS]
    together = adapter(Padded.of(rows))
    law(bool((together.lengths >= 1).all()), name, SHORTEST)
    law(together.values.shape[2] == 16, name, "outputs have the decoder's width")
    law(
        together.values.shape[1] == int(together.lengths.max()),
        name,
        "outputs are no longer than the longest row",
    )
    alone = [adapter(Padded.of([row])) for row in rows]
    _lengths(name, adapter, LENGTHS, together)
    for length, made in zip(LENGTHS, alone, strict=True):
        _lengths(name, adapter, (length,), made)
    check_lengths(name, LONGER, **options)
    same(together.unpad(), adapter(Padded.of(rows)).unpad(), name, DETERMINISM)
    _order(name, adapter, rows, together)
    same(together.unpad(), adapter(_dirty(rows)).unpad(), name, PADDING)
    same(together.unpad(), [a.unpad()[0] for a in alone], name, NEIGHBOURS)
    if isinstance(adapter, TimedAdapter):
        _check_times(name, adapter, rows)
    law(not _unreached(adapter, Padded.of(rows)), name, "a gradient reaches every parameter")
    again = _adapter(name, options, seed=1).eval()
    again.load_state_dict(adapter.state_dict())
    same(together.unpad(), again(Padded.of(rows)).unpad(), name, STATE)


def check_lengths(name: str, lengths: Seq[int] = range(1, 3001), **options: Any) -> None:
    """Check that an adapter's length formula is what its forward makes, row by row; the widths do not matter to it.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    adapter = _adapter(name, options).eval()
    longest = torch.randn(1, max(lengths), 12, generator=torch.Generator().manual_seed(0))
    for length in lengths:
        with torch.no_grad():
            made = adapter(Padded(longest[:, :length], torch.tensor([length])))
        _lengths(name, adapter, (length,), made)


def check_encoder(name: str, **options: Any) -> None:
    """Check the law of encoders: lengths, padding, neighbours, determinism and state.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    refuses_unknown_keys(ENCODERS, name)
    encoder = ENCODERS.build({"name": name, **options}).eval()
    generator = torch.Generator().manual_seed(0)
    samples = [int(encoder.sampling_rate * s) for s in (0.11, 0.5, 1.3)]
    rows = [0.1 * torch.randn(n, generator=generator) for n in samples]
    with torch.no_grad():
        together = encoder(Padded.of(rows))
        alone = [encoder(Padded.of([row])).unpad()[0] for row in rows]
        law(together.values.shape[2] == encoder.output_dim, name, "frames have output_dim values")
        step = round(encoder.sampling_rate * encoder.frame_shift)
        for length in (*samples, 1, step - 1, step, step + 1, 7 * step, 7 * step + 1):
            made = encoder(Padded.of([rows[-1][:length]]))
            law(int(made.lengths) >= 1, name, SHORTEST)
            _lengths(name, encoder, (length,), made)
        _lengths(name, encoder, samples, together)
        for length, row in zip(samples, together.lengths.tolist(), strict=True):
            expected = length / encoder.sampling_rate / encoder.frame_shift
            law(abs(row - expected) <= 1, name, "lengths agree with frame_shift within a frame")
        same(together.unpad(), encoder(Padded.of(rows)).unpad(), name, DETERMINISM)
        _order(name, encoder, rows, together)
        same(together.unpad(), encoder(_dirty(rows)).unpad(), name, PADDING)
        same(together.unpad(), alone, name, NEIGHBOURS)
        again = ENCODERS.build({"name": name, **options}).eval()
        again.load_state_dict(encoder.state_dict())
        same(together.unpad(), again(Padded.of(rows)).unpad(), name, STATE)


def _adapter(name: str, options: dict[str, Any], seed: int = 0) -> Adapter:
    torch.manual_seed(seed)
    adapter = ADAPTERS.build({"name": name, **options}, 12, 16)
    if isinstance(adapter, TokenAdapter):
        adapter.attach(torch.arange(20), torch.randn(20, 16, generator=torch.Generator().manual_seed(1)))
        for parameter in adapter.parameters():  # untrained biases of zero would hide what depends on them
            if parameter.dim() <= 1:
                nn.init.normal_(parameter, std=0.1)
    return adapter


def _lengths(name: str, part: Encoder | Adapter, given: Seq[int], made: Padded) -> None:
    """Hold the length formula to what rows of `given` steps have become."""
    formula, real = part.output_lengths(torch.tensor(given)), made.lengths
    if isinstance(part, Adapter) and not part.exact_lengths:
        law(bool((real <= formula).all()), name, "output_lengths is the most there can be")
        return
    longest = made.values.shape[1] == int(real.max())
    law(longest and formula.tolist() == real.tolist(), name, LENGTH)


def _order(name: str, part: Encoder | Adapter, rows: list[Tensor], together: Padded) -> None:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = part(Padded.of([rows[i] for i in order])).unpad()
    same([together.unpad()[i] for i in order], shuffled, name, ORDER)


def _dirty(rows: list[Tensor]) -> Padded:
    """Pad rows with NaN, which whoever touches it gets."""
    padded = Padded.of(rows)
    mask = padded.mask.reshape(padded.mask.shape + (1,) * (padded.values.dim() - 2))
    return Padded(padded.values.masked_fill(~mask, torch.nan), padded.lengths)


def _unreached(adapter: Adapter, frames: Padded) -> list[str]:
    """Return the parameters without a gradient, of all that is ever trained by: outputs, token scores, counts."""
    adapter.train()
    outputs = [row for row in adapter(frames).unpad()]
    if isinstance(adapter, TokenAdapter):
        outputs += adapter.token_logits(frames).unpad()
    if isinstance(adapter, CountingAdapter):
        outputs.append(adapter.quantities(frames))
    # Random weights: the sum of what a layer norm gives is always the same.
    total = torch.stack([(torch.randn_like(row) * row).sum() for row in outputs]).sum()
    if total.requires_grad:
        total.backward()
    named = dict(adapter.named_parameters())
    heard = [p for p in named.values() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    return [name for name, p in named.items() if p.grad is None or not heard]


def _check_times(name: str, adapter: TimedAdapter, rows: list[Tensor]) -> None:
    frames = Padded.of(rows)
    embeddings, times = adapter.timed(frames)
    for when, length, count in zip(times, frames.lengths.tolist(), embeddings.lengths.tolist(), strict=True):
        own = when[:count]
        law(bool((own.diff() >= 0).all()), name, "times do not decrease")
        law(bool((own >= 0).all()) and bool((own <= length - 1).all()), name, "times lie within the frames")
