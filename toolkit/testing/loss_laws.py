"""The law of losses as a function that checks one registered name, and what it feeds them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from toolkit.interfaces import LOSSES, Loss
from toolkit.testing.laws import DETERMINISM, ORDER, law, refuses_unknown_keys, same
from toolkit.testing.span_embeddings import span_embeddings
from toolkit.types import (
    LossInputs,
    Outputs,
    Padded,
    Quantities,
    SpanOutputs,
    TopK,
)


def check_loss(name: str, **options: Any) -> None:
    """Check the law of losses: finite sums that split, a gradient, and nothing where nothing is supervised.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    refuses_unknown_keys(LOSSES, name)
    loss = LOSSES.build({"name": name, **options})
    whole = loss_inputs(loss.needs, range(6))
    output = loss(whole)
    law(bool(torch.isfinite(output.total)), name, "the loss is finite")
    same([output.total], [loss(loss_inputs(loss.needs, range(6))).total], name, DETERMINISM)
    same([output.total], [loss(loss_inputs(loss.needs, (4, 0, 5, 1, 3, 2))).total], name, ORDER)
    parts = [loss(loss_inputs(loss.needs, rows)) for rows in (range(0, 2), range(2, 6))]
    law(sum(p.count for p in parts) == output.count, name, "counts add up")
    same([output.total], [parts[0].total + parts[1].total], name, "a batch split in two sums to the same")
    output.total.backward()
    leaves = [
        *([whole.student.logits] if whole.student else []),
        *([whole.spans.logits.values] if whole.spans else []),
        *([whole.quantities.found] if whole.quantities else []),
        *(whole.embeddings.speech if whole.embeddings else []),
    ]
    leaf = leaves[0]
    law(leaf.grad is not None and bool(leaf.grad.abs().sum() > 0), name, "a gradient comes back")
    if loss.stored_teacher and whole.teacher is not None:
        _check_stored(loss, name, output.total)
    nothing = loss(loss_inputs(loss.needs, range(0)))
    law(nothing.count == 0 and float(nothing.total.detach()) == 0.0, name, "no supervised position is a sum of nothing")


def _check_stored(loss: Loss, name: str, live: Tensor) -> None:
    """Check a loss that takes a stored teacher in the place of one that is run."""
    given = loss_inputs(loss.needs, range(6))
    assert given.student is not None
    assert given.teacher is not None
    whole, part = (TopK.of(given.teacher.logits.detach(), k) for k in (11, 3))
    total = loss(replace(given, teacher=None, stored_teacher=whole)).total
    same([live], [total], name, "a teacher of which all is stored is the teacher")
    loss(replace(given, teacher=None, stored_teacher=part)).total.backward()
    slope = given.student.logits.grad
    found = slope is not None and bool(torch.isfinite(slope).all() and slope.abs().sum() > 0)
    law(found, name, "a teacher of which a part is stored gives a gradient")


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
        # Rows of different lengths, which split otherwise are padded otherwise.
        steps, tokens = [5 + i for i in rows], [1 + i % 3 for i in rows]
        labels = [torch.arange(i, i + n) % 6 + 1 for i, n in zip(rows, tokens, strict=True)]
        aligned = [torch.arange(i, i + n) % 7 for i, n in zip(rows, steps, strict=True)]
        logits = _padded([row(i, n, 7) for i, n in zip(rows, steps, strict=True)], torch.zeros(0, 9, 7), 0)
        alignment = _padded(aligned, torch.zeros(0, 9, dtype=torch.long), -1)
        targets = _padded(labels, torch.zeros(0, 2, dtype=torch.long), 0)
        spans = SpanOutputs(
            Padded(logits.requires_grad_(), torch.tensor(steps, dtype=torch.long)),
            Padded(targets, torch.tensor(tokens, dtype=torch.long)),
            alignment,
        )
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
        embeddings=span_embeddings(rows) if "embeddings" in needs else None,
        starts=torch.tensor([i % 3 == 0 for i in rows], dtype=torch.bool),
        end_of_turn=3,
    )


def _padded(rows: list[Tensor], nothing: Tensor, filling: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filling) if rows else nothing
