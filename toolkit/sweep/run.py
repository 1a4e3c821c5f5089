"""Runs the cells of a sweep, each in a process of its own, so that a crash and a peak of memory are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from toolkit.errors import ConfigError
from toolkit.stages.progress import bar, say
from toolkit.sweep.clock import median_step, step_clock
from toolkit.sweep.record import COST, DONE, FAILED, LOG, STAGES, UNFINISHED, Record, read_record

POLL = 0.5
"""seconds between two looks at the processes"""


@dataclass(frozen=True)
class Job:
    """What is to be done for a cell."""

    overrides: list[str]
    """all that its configuration is composed of"""
    steps: int
    """of the training, for the time left"""
    minutes: float = 0.0
    """of the training at most; 0 is no limit"""
    stages: tuple[str, ...] = STAGES
    after: Path | None = None
    """folder of the cell that this one begins from"""


@dataclass(frozen=True)
class _Running:
    """A cell at work."""

    folder: Path
    job: Job
    process: subprocess.Popen[bytes]
    record: Record
    began: float
    """on the monotonic clock"""
    log_start: int
    """where this attempt's part of the log begins, in bytes"""

    def ended(self, state: str, error: str = "") -> Record:
        """Return what is known now."""
        seconds = self.record.seconds + time.monotonic() - self.began
        return replace(self.record, state=state, error=error, seconds=round(seconds, 1))

    def log_lines(self) -> list[str]:
        """Return what this attempt has said."""
        said = (self.folder / LOG).read_bytes()[self.log_start :].decode(errors="replace")
        return [line.strip() for line in said.splitlines() if line.strip()]


def check_same(planned: Mapping[Path, list[str]]) -> None:
    """Refuse to put cells of two budgets or methods into one table.

    Raises:
        ConfigError: a folder holds a finished cell with other overrides than are planned now.
    """
    for folder, overrides in planned.items():
        record = read_record(folder)
        if record is not None and record.state == DONE and record.overrides != overrides:
            changed = " ".join(sorted({*record.overrides} ^ {*overrides}))
            raise ConfigError(
                f"{folder} is done with other settings ({changed}). Choose another --exp, "
                f"or remove {folder} to run it again."
            )


def run_cells(planned: Mapping[Path, Job], jobs: int, tell: Callable[[], None], title: str = "sweep") -> bool:
    """Run every cell that is not done; returns whether all are done in the end.

    Args:
        planned: folder -> what is to be done; a cell stands after the one it begins from.
        jobs: cells side by side.
        tell: called whenever a cell has ended, and at the end.
        title: of what the cells are of.

    Raises:
        ConfigError: `jobs` is none.
        KeyboardInterrupt: the cells at work are stopped; the next run goes on with them.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is at least 1, not {jobs}")
    records = {folder: read_record(folder) for folder in planned}
    todo = [folder for folder, record in records.items() if record is None or record.state != DONE]
    if done := len(planned) - len(todo):
        say(f"{title}: {done} of {len(planned)} cells are done")
    running: list[_Running] = []
    with bar(title, len(planned), done) as progress:
        try:
            while todo or running:
                for folder in _ready(todo, planned, [cell.folder for cell in running])[: jobs - len(running)]:
                    todo.remove(folder)
                    if why := _cannot_begin(planned[folder].after):
                        _give_up(folder, planned[folder], records[folder], why, title)
                        tell()
                        progress.advance()
                    else:
                        running.append(_start(folder, planned[folder], jobs, title))
                time.sleep(POLL if running else 0)
                for cell in [cell for cell in running if cell.process.poll() is not None]:
                    running.remove(cell)
                    _finish(cell, title)
                    tell()
                    progress.advance()
                progress.advance(0, "; ".join(_state(cell) for cell in running))
        finally:
            for cell in running:
                cell.process.terminate()
                cell.process.wait()
                cell.ended(UNFINISHED).write(cell.folder)
            tell()
    return all(record is not None and record.state == DONE for record in map(read_record, planned))


def _ready(todo: Seq[Path], planned: Mapping[Path, Job], running: Seq[Path]) -> list[Path]:
    """Return the cells that need not wait for another one, in order."""
    waiting = {*todo, *running}
    return [folder for folder in todo if planned[folder].after not in waiting]


def _cannot_begin(after: Path | None) -> str:
    """Say why a cell cannot be begun; empty if it can."""
    record = None if after is None else read_record(after)
    return f"begins from {after.name}, which failed" if after and record and record.state == FAILED else ""


def _give_up(folder: Path, job: Job, before: Record | None, why: str, title: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Record(job.overrides, FAILED, before.seconds if before else 0.0, why, list(job.stages)).write(folder)
    say(f"{title}: {folder.name} FAILED: {why}")


def _start(folder: Path, job: Job, jobs: int, title: str) -> _Running:
    folder.mkdir(parents=True, exist_ok=True)
    before = read_record(folder)
    record = Record(job.overrides, seconds=before.seconds if before else 0.0, stages=list(job.stages))
    record.write(folder)
    environment = dict(os.environ)
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    command = [sys.executable, "-m", "toolkit.sweep.cell", str(folder)]
    with (folder / LOG).open("ab") as log:
        log.write(f"# {datetime.now():%F %T} {' '.join(command[1:])}\n".encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    say(f"{title}: {folder.name} begins; its log: {folder / LOG}")
    return _Running(folder, job, process, record, time.monotonic(), begin)


def _finish(cell: _Running, title: str) -> None:
    status = cell.process.returncode
    if status == 0:
        ended = cell.ended(DONE)
        say(f"{title}: {cell.folder.name} is done, {ended.seconds / 60:.1f} minutes")
    else:
        ended = cell.ended(FAILED, _why(status, cell.log_lines()))
        say(f"{title}: {cell.folder.name} FAILED: {ended.error} (log: {cell.folder / LOG})")
    ended.write(cell.folder)


def _why(status: int, lines: list[str]) -> str:
    """Say why a cell failed: the last line of its log, or the signal that ended it."""
    if status < 0:
        name = signal.Signals(-status).name
        guess = ", which is what happens where memory runs out" if name == "SIGKILL" else ""
        return f"ended by {name}{guess}"
    return lines[-1] if lines else f"ended with status {status} and said nothing"


def _state(cell: _Running) -> str:
    """Tell where a cell is: its step and the time left, and after the training the last line of its log."""
    if (cell.folder / COST).exists():
        return f"{cell.folder.name}: {(cell.log_lines() or ['trained'])[-1]}"
    steps, minutes, clock = cell.job.steps, cell.job.minutes, step_clock(cell.folder)
    each, (step, seconds) = median_step(clock), clock[-1] if clock else (0, 0.0)
    if each is None or step > steps:  # a warm cell's log begins with that of its warm start
        return f"{cell.folder.name}: begins"
    left = each * (steps - step) / 60
    left = min(left, minutes - seconds / 60) if minutes else left
    return f"{cell.folder.name}: step {step} of {steps}, {max(left, 0):.1f} minutes of training left"
