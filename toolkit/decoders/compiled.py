"""Norms and MLPs of a frozen LLM, compiled by torch for training: what is element by element in them is fused.

Whole layers are not: they know their number and hold a cache, so that torch compiles them again and again. A norm or
an MLP takes one tensor and treats each position alone. So positions are laid in one row, whose length alone changes,
and one program serves all layers and all lengths. Only what a gradient goes through is compiled: prefixes, a teacher,
validation and generation need none, run as ever, and give what they gave.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Program = Callable[[nn.Module, Tensor], Tensor]


class CompiledPieces:
    """Lets the norms and MLPs of a model run compiled from now on, each kind compiled when it is first needed."""

    def __init__(self, model: nn.Module) -> None:
        self.seconds = 0.0
        """that compiling took so far"""
        self._compiled: set[tuple[Any, ...]] = set()
        pieces = list(pieces_of(model))
        for piece in pieces:
            piece.forward = partial(self._run, piece)
        self.count = len(pieces)

    def _run(self, piece: nn.Module, x: Tensor) -> Tensor:
        """Run (..., D) -> (..., D)."""
        several = x.numel() > x.shape[-1]  # for a single position torch would make programs of its own
        if not (several and torch.is_grad_enabled() and x.requires_grad):
            return type(piece).forward(piece, x)  # type: ignore[no-any-return]
        rows = x.reshape(-1, x.shape[-1])
        kind = type(piece), x.dtype, x.device, *(p.shape for p in piece.parameters())
        if kind not in self._compiled:
            start = time.monotonic()
            tried = rows.detach().requires_grad_()
            torch.autograd.grad(_program(type(piece).forward)(piece, tried).sum(), tried)
            self.seconds += time.monotonic() - start
            self._compiled.add(kind)
        return _program(type(piece).forward)(piece, rows).view(*x.shape[:-1], -1)


def pieces_of(model: nn.Module) -> Iterator[nn.Module]:
    """Find what is compiled by how it is built, whatever a family calls it."""
    return (module for module in model.modules() if _takes_one(module) and (_is_norm(module) or _is_mlp(module)))


def _takes_one(module: nn.Module) -> bool:
    return len(inspect.signature(type(module).forward).parameters) == 2  # itself is the other


def _is_norm(module: nn.Module) -> bool:
    """Tell whether it holds vectors and nothing else."""
    held = list(module.parameters())
    return not any(True for _ in module.children()) and bool(held) and all(p.dim() == 1 for p in held)


def _is_mlp(module: nn.Module) -> bool:
    """Tell whether it holds plain linear layers, and beside them what has no weights: no router, no LoRA."""
    children = list(module.children())
    linear = [child for child in children if type(child) in (nn.Linear, Conv1D)]
    held = sum(1 for child in linear for _ in child.parameters())
    return len(linear) > 1 and held == sum(1 for _ in module.parameters())


@cache
def _program(forward: Callable[..., Tensor]) -> Program:
    return torch.compile(forward, dynamic=True)
