"""Modules of somebody else's model that run by another function for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def run_instead(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let each module run by its function inside the `with`, and by its own class's afterwards."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward
