"""Progress bars with time left, the same for every stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Of several processes started by torchrun, the first alone tells how it goes.
CONSOLE = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


class Bar:
    """Counts finished items; on a terminal a bar, in a log a line now and then."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._title = title
        self._total = total
        self._task = progress.add_task(title, total=total)
        self._next = 0.0
        self._done = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done; `note` is shown beside the bar."""
        self._done += count
        self._progress.update(self._task, advance=count, description=f"{self._title} {note}".strip())
        share = self._done / max(self._total, 1)
        if not CONSOLE.is_terminal and not CONSOLE.quiet and share >= self._next:
            self._next = share + 0.1
            left = self._progress.tasks[0].time_remaining
            eta = f", {left:.0f} s left" if left else ""
            sys.stderr.write(f"  {self._title}: {self._done}/{self._total}{eta} {note}\n")


@contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    """Show the progress of a loop over `total` items."""
    columns = (
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
        yield Bar(progress, title, total)


def say(text: str) -> None:
    """Say what a stage is doing, in one line."""
    CONSOLE.print(f"  {text}", highlight=False, markup=False)
