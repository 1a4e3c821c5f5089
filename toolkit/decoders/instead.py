"""Modules of somebody else's model that run by another function for a while, where nobody would notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def run_instead(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let each module run by its function inside the `with`, and by its own class's afterwards.

    For one thread at a time: another one would run the modules so too.
    """
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def listened_to(module: nn.Module) -> bool:
    """Tell whether somebody looks at what the module is given or gives, or at the gradients of these."""
    every = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    )  # fmt: skip
    return any(every)
