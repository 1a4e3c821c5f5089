"""A loss a few positions at a time, so that nothing of the size of positions x vocabulary is ever held.

Such a loss is a sum over positions, and behind its scores stands a frozen matrix: of every chunk the gradient on its
hidden states is all that the backward pass will ask for. It is taken at once, and the scores are let go. The products
are as many as for all positions together; none is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from toolkit.types import LossInputs, LossOutput


def in_chunks(loss: Callable[[LossInputs], LossOutput], inputs: LossInputs) -> LossOutput:
    """Compute a loss of `student` scores, and of a `teacher`, live or stored, whose total is a sum over positions.

    Where the scores are there already, this is `loss(inputs)`.
    """
    student = inputs.student
    assert student is not None
    if not student.together:
        return loss(inputs)
    hidden, chunks = student.hidden, -(-len(student.hidden) // student.together)
    learns = torch.is_grad_enabled() and hidden.requires_grad
    outputs, gradients = [], []
    # Alike in size: the whole matrix is read for each, so that a last one of few positions would be dear.
    ends = [len(hidden) * i // chunks for i in range(chunks + 1)]
    for rows in (slice(start, end) for start, end in pairwise(ends)):
        own = hidden[rows].detach().requires_grad_(learns)
        output = loss(_part(inputs, rows, own))
        if learns:
            gradients.append(torch.autograd.grad(output.total, own)[0])
        parts = {name: value.detach() for name, value in output.parts.items()}
        outputs.append(LossOutput(output.total.detach(), output.count, parts))
    total = torch.stack([output.total for output in outputs]).sum()
    if learns:
        total = _Known.apply(hidden, total, torch.cat(gradients))  # type: ignore[no-untyped-call]
    parts = {name: torch.stack([output.parts[name] for output in outputs]).sum() for name in outputs[0].parts}
    return LossOutput(total, sum(output.count for output in outputs), parts)


def _part(inputs: LossInputs, rows: slice, hidden: Tensor) -> LossInputs:
    """Return what belongs to some of the positions, with their hidden states given."""
    assert inputs.student is not None
    return replace(
        inputs,
        targets=inputs.targets[rows],
        student=replace(inputs.student.part(rows), hidden=hidden),
        teacher=None if inputs.teacher is None else inputs.teacher.part(rows),
        starts=None if inputs.starts is None else inputs.starts[rows],
        stored_teacher=None if inputs.stored_teacher is None else inputs.stored_teacher.part(rows),
    )


class _Known(torch.autograd.Function):
    """A scalar whose gradient on the hidden states is known already."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, total: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return slope.to(gradient.dtype) * gradient, None, None
