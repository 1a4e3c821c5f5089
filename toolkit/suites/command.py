"""`toolkit suite`: one benchmark of others, on one trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from toolkit.config import load_parts
from toolkit.errors import ConfigError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.normalisation import NORMALISERS
from toolkit.stages.progress import say
from toolkit.suites.page import ANSWERS, PAGE, VALUES, draw_result
from toolkit.suites.run import Options, run
from toolkit.suites.suite import SUITES, find_suite


def main(argv: list[str], about: str) -> int:
    """Run `toolkit suite ARGV...`; `about` says what it does. Returns the exit status.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    given = _parser(about).parse_args(argv)
    suite = find_suite(given.name)
    for name in ("limit", "max_new_tokens", "resamples"):
        if getattr(given, name) < 0:
            raise ConfigError(f"--{name.replace('_', '-')} is 0 or more, not {getattr(given, name)}")
    if given.batch_size < 1:
        raise ConfigError(f"--batch-size is at least 1, not {given.batch_size}")
    load_parts()
    out = given.out or given.exp / "suites" / suite.name
    options = Options(
        given.limit, given.template, given.max_new_tokens, given.batch_size, given.skip_missing, given.normaliser,
        Resampling(given.resamples),
    )  # fmt: skip
    result = run(suite, given.folder, given.exp, out, options)
    Console().print(draw_result(result))
    say(f"written: {out / PAGE}, {out / VALUES}, {out / ANSWERS}")
    return 0


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit suite",
        description=f"{about}. Answers are kept: the same command goes on where it stopped, and scores again.",
        epilog="For example: toolkit suite voicebench data/voicebench --exp exp/mtbi --max-new-tokens 512",
    )
    parser.add_argument("name", help=", ".join(f"{suite.name} ({suite.source})" for suite in SUITES.values()))
    parser.add_argument("folder", type=Path, help="the suite's data, as it was downloaded")
    parser.add_argument("--exp", type=Path, required=True, metavar="DIR", help="experiment with a trained checkpoint")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for answers and tables (EXP/suites/NAME)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N items of each part (0: all)")
    parser.add_argument(
        "--template", default="", help="of the prompts, with {speech} and, where there is one, {instruction}"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=0, metavar="N", help="of an answer (0: as the model was trained)"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="answered together (8)")
    parser.add_argument(
        "--skip-missing", action="store_true",
        help="leave out, and count, what cannot be asked here: missing, unusable or too long audio, rules without "
        "their package",
    )  # fmt: skip
    parser.add_argument("--normaliser", default="english", help=f"for word errors: {', '.join(NORMALISERS)}")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the intervals (1000; 0: none)")
    return parser
