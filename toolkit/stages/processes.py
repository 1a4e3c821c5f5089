"""Processes that help a stage: each runs the same work on the same files, and takes what nobody else is at."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

import torch

from toolkit.config import Config, load_parts
from toolkit.errors import ToolkitError
from toolkit.stages.progress import CONSOLE, say

Work = Callable[[Config], object]


@contextmanager
def helpers(config: Config, work: Work, count: int) -> Iterator[None]:
    """Run `work(config)` in `count` more processes while the block runs; the processor is shared out evenly.

    The block does the same work: when it has found all done, so have they. One that dies is told of, not waited for.

    Args:
        config: of the stage.
        work: a function of a module; it must take only what no other process has taken.
        count: processes beside this one.
    """
    if not count:
        yield
        return
    threads = torch.get_num_threads()
    each = max(1, threads // (count + 1))
    # Fresh processes, not forks: a fork copies torch's threads and the bar's lock in whatever state they are.
    context = get_context("spawn")
    processes = [
        context.Process(target=_help, args=(config, work, number, each), daemon=True) for number in range(1, count + 1)
    ]
    torch.set_num_threads(each)
    try:
        for process in processes:
            process.start()
        yield
        for process in processes:
            process.join()
        if died := [str(process.exitcode) for process in processes if process.exitcode]:
            say(f"{len(died)} of {count + 1} processes ended early (exit status {', '.join(died)}); the others did all")
    finally:
        torch.set_num_threads(threads)
        for process in processes:
            if process.is_alive():
                process.terminate()


def _help(config: Config, work: Work, number: int, threads: int) -> None:
    """Work as one of several processes: silently, and no longer than the one that started it."""
    Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who says what became of it
    CONSOLE.quiet = True
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    load_parts()
    try:
        work(config)
    except ToolkitError:  # the first process meets it too, and tells
        raise SystemExit(2) from None


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would go on by itself, unasked."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
