"""`toolkit plan`: what an experiment would take, before any weights are there; `toolkit plan batches`: its batches."""

from __future__ import annotations

import argparse
import json
import sys

from hydra.errors import HydraException
from rich.console import Console

from toolkit.config import Config, compose_config
from toolkit.errors import ConfigError
from toolkit.plan import batches_command
from toolkit.plan.draw import draw
from toolkit.plan.plan import Question, make_plan


def main(argv: list[str], about: str) -> int:
    """Run `toolkit plan ARGV...`; `about` says what it does. Returns 0, and 1 of faulty batches.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    if argv[:1] == ["batches"]:
        return _batches(argv[1:])
    options = _parser(about).parse_intermixed_args(argv)
    if bool(options.hours) != bool(options.utterances):
        raise ConfigError("--hours and --utterances go together: both are of the training data")
    config = _composed(options.overrides)
    question = Question(
        options.hours, options.utterances, options.gpus, options.gpu_memory, options.tokens, options.rate
    )
    plan = make_plan(config, question)
    if options.json:
        sys.stdout.write(json.dumps(plan.as_json(), indent=1) + "\n")
    else:
        Console().print(draw(plan))
    return 0


def _batches(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="toolkit plan batches",
        description="simulate the batches of ranks and workers from the manifests: steps, rows, padding, duplicates, "
        "drops. Exit status 1 if an example is seen twice or never, or a batch is above its budget",
        epilog="For example: toolkit plan batches recipes=mtbi egs=mini/conf/mini train.batch_tokens=2000 --ranks 2",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the configuration, as of a stage")
    batches_command.add_options(parser)
    options = parser.parse_intermixed_args(argv)
    return batches_command.run(_composed(options.overrides), options)


def _composed(overrides: list[str]) -> Config:
    try:
        return compose_config(overrides)
    except HydraException as error:
        raise ConfigError(str(error)) from error


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit plan",
        description=f"{about} and without internet: the parts are built on the meta device.",
        epilog="For example: toolkit plan recipes=mtbi egs=librispeech/conf/full --gpus 8 --gpu-memory 80. What ranks "
        "and workers would be given: toolkit plan batches --help",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the configuration, as of a stage")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="processes of a training (1)")
    parser.add_argument("--gpu-memory", type=float, default=0.0, metavar="GB", help="of each; warn of what is more")
    parser.add_argument("--hours", type=float, default=0.0, metavar="N", help="of training data not prepared yet")
    parser.add_argument("--utterances", type=int, default=0, metavar="N", help="of training data not prepared yet")
    parser.add_argument("--tokens", type=int, default=0, metavar="N", help="in the transcripts, for ctc adapters")
    parser.add_argument("--rate", type=float, default=0.0, metavar="N", help="tokens the LLM generates in a second")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    return parser
