"""`toolkit table EXPERIMENT...`: the scores of experiments side by side, whatever ran them."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from toolkit.scoring.markdown import PAGE, VALUES
from toolkit.stages.score import summary, table


def main(argv: list[str], about: str) -> int:
    """Run `toolkit table ARGV...` on scored experiments; `about` says what it does.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    parser = argparse.ArgumentParser(
        prog="toolkit table",
        description=about,
        epilog="Of a folder with a table.yaml it runs what is missing: see toolkit table egs/mini --help",
    )
    parser.add_argument("experiments", nargs="+", type=Path, help="experiment folders that were scored")
    parser.add_argument("--out", type=Path, default=Path("."), help=f"folder of {PAGE} and {VALUES}")
    parser.add_argument("--examples", type=int, default=3, help="worked examples to show")
    arguments = parser.parse_args(argv)
    table(arguments.experiments, arguments.out, arguments.examples)
    Console().print(summary(arguments.experiments, arguments.examples))
    written = f"written: {arguments.out / PAGE}, {arguments.out / VALUES}"
    Console().print(written, highlight=False, markup=False, soft_wrap=True)
    return 0
