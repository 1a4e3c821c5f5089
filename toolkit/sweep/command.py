"""`toolkit sweep`: runs the cells of a sweep and writes their table."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType

from rich.console import Console

from toolkit.config import load_parts
from toolkit.errors import ConfigError
from toolkit.stages.progress import say
from toolkit.sweep.plan import choose_cells, plan, read_sweep
from toolkit.sweep.run import Job, check_same, run_cells
from toolkit.sweep.table import PAGE, VALUES, draw_sweep, gather, write_sweep
from toolkit.training.checkpoint import WEIGHTS


def main(argv: list[str], about: str) -> int:
    """Run `toolkit sweep ARGV...`; `about` says what it does. Returns 0 if all cells are well, else 1.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    options = _parser(about).parse_intermixed_args(argv)
    load_parts()
    sweep, exp = read_sweep(options.sweep), options.exp
    steps = sweep.steps if options.steps is None else options.steps
    minutes = sweep.minutes if options.minutes is None else options.minutes
    warm = None if options.warm in ("", "none") else Path(options.warm)
    cells = choose_cells(sweep, [], warm=warm is not None)
    chosen = choose_cells(sweep, [name for name in options.only.split(",") if name], warm=warm is not None)
    if warm is None and (left := [cell.name for cell in sweep.cells if cell.warm]):
        say(f"sweep: {', '.join(left)} left out: no warm start (--warm)")
    if warm is not None and any(cell.warm for cell in cells) and not (warm / WEIGHTS).is_file():
        raise ConfigError(f"there is no checkpoint in {warm}: train the warm start first, or say --warm none")
    planned = plan(sweep, cells, exp, steps=steps, minutes=minutes, warm=warm, more=options.overrides)
    check_same(planned)
    todo = {exp / cell.name: Job(planned[exp / cell.name], steps, minutes) for cell in chosen}
    names = [cell.name for cell in cells]
    made = {"steps": steps, "minutes at most": minutes or None, "cells side by side": options.jobs}
    made |= {"overrides": " ".join([*sweep.shared, *options.overrides])}

    def tell() -> None:
        write_sweep(exp, gather(f"Sweep: {sweep.name}", sweep.about, exp, names, made))

    signal.signal(signal.SIGTERM, interrupt)
    well = run_cells(todo, options.jobs, tell)
    Console().print(draw_sweep(exp, gather(f"Sweep: {sweep.name}", sweep.about, exp, names, made)))
    say(f"written: {exp / PAGE}, {exp / VALUES}")
    return 0 if well else 1


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit sweep",
        description=f"{about}. Finished cells are not run again; exit status 1 if a cell failed.",
        epilog="For example: toolkit sweep sweeps/adapters.yaml --exp exp/sweep recipes=asr egs=mini/conf/demo",
    )
    parser.add_argument("sweep", type=Path, help="YAML file: cells, what they share, their budget")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for all cells; they have the last word")
    parser.add_argument("--exp", type=Path, required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps of every cell (the sweep's own)")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="of training at most; 0 is no limit (the sweep's own)"
    )
    parser.add_argument("--warm", default="none", metavar="DIR", help="checkpoint of the warm cells; `none`: without")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells side by side: they slow each other (1)")
    parser.add_argument("--only", default="", metavar="A,B", help="run these cells alone")
    return parser


def interrupt(number: int, frame: FrameType | None) -> None:
    """Be interrupted by SIGTERM as by Ctrl-C: the cells at work are stopped too."""
    raise KeyboardInterrupt
