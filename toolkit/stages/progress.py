"""Progress bars with time left, the same for every stage."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

# Of several processes started by torchrun, the first alone tells how it goes.
CONSOLE = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


class Bar:
    """Counts finished items; on a terminal a bar, in a log a line now and then."""

    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self._progress = progress
        self._title = title
        self._total = total
        self._task = progress.add_task(title, total=total, completed=done, left="")
        self._next = 0.0
        self._before = self._done = done
        self._begun = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done; `note` is shown beside the bar."""
        self._done += count
        left = self._left()
        self._progress.update(self._task, advance=count, description=f"{self._title} {note}".strip(), left=left)
        share = self._done / max(self._total, 1)
        if not CONSOLE.is_terminal and not CONSOLE.quiet and share >= self._next:
            self._next = share + 0.1
            words = " ".join(filter(None, (f"{self._done}/{self._total}", left, note)))
            sys.stderr.write(f"  {self._title}: {words}\n")

    def _left(self) -> str:
        """Tell the time left, as "h:mm:ss left", at the pace of this run as a whole; empty where nobody can tell yet.

        rich's own guess goes by the last half minute, in which there may be no item, or two that ended together.
        """
        new, missing = self._done - self._before, self._total - self._done
        seconds = (time.monotonic() - self._begun) / new * missing if new > 0 else 0.0
        return f"{timedelta(seconds=round(seconds))} left" if seconds > 0 else ""


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show the progress of a loop over `total` items, `done` of which an earlier run has done."""
    columns = (
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
        yield Bar(progress, title, total, done)


def say(text: str) -> None:
    """Say what a stage is doing, in one line."""
    CONSOLE.print(f"  {text}", highlight=False, markup=False)
