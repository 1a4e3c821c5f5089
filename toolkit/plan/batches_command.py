"""`toolkit plan batches`: what ranks and workers would be given, before anything is loaded."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from toolkit.config import Config
from toolkit.plan.batches import Simulated, Spread, plan_batches
from toolkit.stages.steps import size_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked beside the configuration."""
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes of the training (1)")
    parser.add_argument("--workers", type=int, metavar="N", help="that make batches for each (train.workers)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="to simulate, from the first (1)")
    parser.add_argument(
        "--like-librispeech", type=int, metavar="N", help="made-up utterances, as long as LibriSpeech's"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(config: Config, options: argparse.Namespace) -> int:
    """Simulate and report. Returns 1 where anything is seen twice or never, or is above its budget."""
    workers = config.train.workers if options.workers is None else options.workers
    found = plan_batches(config, options.ranks, workers, options.epochs, options.like_librispeech)
    if options.json:
        sys.stdout.write(json.dumps(found.as_json(), indent=1) + "\n")
    else:
        Console().print(draw(found, size_of(config)))
    return 1 if found.faults else 0


def draw(found: Simulated, size: str) -> Group:
    """Draw what was found."""
    steps = sorted(set(found.steps))
    table = Table(
        title=f"{found.ranks} ranks, {found.workers} workers each, steps of {size}",
        title_justify="left", title_style="bold", box=None, pad_edge=False,
    )  # fmt: skip
    for column in ("", "least", "mean", "most"):
        table.add_column(column, justify="right" if column else "left")
    for name, spread in (
        ("rows of a step", found.rows),
        ("positions of a step", found.cost),
        ("forward passes of a rank", found.passes),
        ("positions of a forward pass", found.pass_cost),
    ):
        table.add_row(name, *_numbers(spread))
    epochs = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    lines = [
        f"{found.examples:,} examples of {found.positions / found.examples:,.1f} positions; {epochs} steps an epoch",
        f"padding is {100 * found.padding:.2f} % of what is run, as reckoned by duration and tokens",
        f"ranks wait for the dearest {100 * found.imbalance:.2f} % of their time, if time goes by positions",
    ]
    if found.left_over.most:
        lines.append(
            f"{found.left_over.most:,.0f} examples of an epoch fill no step and are left out, others each time"
        )
    if found.idle:
        lines.append(f"{found.idle:,} forward passes count nothing: steps with fewer rows than passes")
    shown: list[RenderableType] = [table, Text("\n".join(lines)), ""]
    shown += [Text(f"note: {note}", "dim") for note in found.notes]
    shown += [Text(f"FAULT: {fault}", "bold red") for fault in found.faults]
    return Group(*shown, *([] if found.faults else [Text("every example is where it should be, once", "green")]))


def _numbers(spread: Spread) -> tuple[str, str, str]:
    return f"{spread.least:,.0f}", f"{spread.mean:,.1f}", f"{spread.most:,.0f}"
