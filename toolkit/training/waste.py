"""What of a training's work teaches nothing: padding that the LLM runs, and waiting for the next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader


class TimedLoader(DataLoader[Any]):
    """Loads whole steps, and knows how many seconds it was waited for."""

    waited: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # nobody asks Lightning's loops for more
        start, steps = time.monotonic(), super().__iter__()
        for step in steps:
            self.waited += time.monotonic() - start
            yield step
            start = time.monotonic()


class Waste:
    """Measures both, of one process, by step and altogether.

    Args:
        run: returns how many positions the LLM has run so far: those of rows, and those with their padding.
        waited: returns for how many seconds data was waited for so far.
    """

    def __init__(self, run: Callable[[], tuple[int, int]], waited: Callable[[], float]) -> None:
        self._run = run
        self._waited = waited
        self._before = (0, 0, 0.0)
        self._totals = [0.0, 0.0, 0.0, 0.0]  # positions of rows, with padding, seconds waited, seconds

    def begin(self) -> None:
        """Begin a step: the LLM may have run for validation since the last one."""
        self._before = (*self._run(), self._before[2])

    def end(self, seconds: float) -> dict[str, float]:
        """End a step that took so many seconds, with the waiting before it; return what to log of it."""
        now = (*self._run(), self._waited())
        step = [*(after - before for after, before in zip(now, self._before, strict=True)), seconds]
        self._before = now
        self._totals = [total + mine for total, mine in zip(self._totals, step, strict=True)]
        return _shares(step)

    def summary(self) -> str:
        """Say in a line what all steps of this process had of it; empty where there were none."""
        words = {"padding": "of what the LLM ran was padding", "waiting": "of the time was waiting for data"}
        return ", ".join(f"{100 * share:.1f} % {words[name]}" for name, share in _shares(self._totals).items())


def _shares(spent: list[float]) -> dict[str, float]:
    rows, padded, waited, seconds = spent
    shares = {"padding": 1 - rows / padded} if padded else {}
    return {name: round(share, 5) for name, share in {**shares, "waiting": waited / max(seconds, 1e-9)}.items()}
