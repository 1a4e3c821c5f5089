"""The performance suite: each case lets two sides take turns, and prints a ratio with its median and spread.

    python benchmarks/run.py                       # all cases, three repeats each
    python benchmarks/run.py --only train_vs_usual memory_vs_usual --repeats 5
    python benchmarks/run.py --quick               # does it all work; figures mean little

It runs on egs/mini as prepared by `egs/mini/run.sh --stop-stage 4` (or `demo.sh`), and writes `RESULTS.md` and
`results.json` beside this file. What each side is, and how to read the figures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # a script's own folder comes first on the path, and the package is one above
    sys.path[0] = str(ROOT)

CASES = {
    "usual": "benchmarks.cases.usual",
    "peer": "benchmarks.cases.peer",
    "limit": "benchmarks.cases.limit",
    "generate": "benchmarks.cases.generate",
    "imitate": "benchmarks.cases.imitate",
    "ranks": "benchmarks.cases.ranks",
    "startup": "benchmarks.cases.startup",
    "compile": "benchmarks.cases.compile",
    "growth": "benchmarks.cases.growth",
    "profile": "benchmarks.profiling",
}


def chosen(names: list[str], figures: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the cases that are named, by their own name or by that of a figure; all where none is.

    Raises:
        ConfigError: there is no such case or figure.
    """
    from toolkit.errors import unknown_name

    for name in names:
        if name not in figures and not any(name in each for each in figures.values()):
            raise unknown_name("case", name, [*figures, *(figure for each in figures.values() for figure in each)])
    return [case for case, each in figures.items() if not names or case in names or set(each) & set(names)]


def main(argv: list[str] | None = None) -> int:
    """Run cases; returns 1 where something was not equal that must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help=f"of {', '.join(CASES)}, or figures")
    parser.add_argument("--repeats", type=int, help="turns of each side (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="few utterances, one repeat")
    parser.add_argument("--data", type=Path, default=ROOT / "egs/mini", help="egs/mini, wherever it was prepared")
    parser.add_argument("--exp", type=Path, help="experiment that generates (exp/mini-mtbi or exp/demo-mtbi of --data)")
    parser.add_argument("--utterances", type=int, help="of the training split (64; with --quick 8)")
    parser.add_argument("--batch", type=int, help="rows a step (16; with --quick 8)")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks/work", help="where data folders are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="where the results go")
    parser.add_argument("overrides", nargs="*", help="of the configuration, such as decoder.model=...")
    given = parser.parse_args(argv)

    from benchmarks.workload import offline
    from toolkit.errors import ToolkitError

    offline()
    try:
        return run(given)
    except ToolkitError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(given: Any) -> int:
    """Run the cases that are asked for, one after another; what is measured is kept at once."""
    import torch

    from benchmarks.options import Options
    from benchmarks.results import about, keep, show

    quick = given.quick
    options = Options(
        data=(given.data / "data").resolve(), work=given.work.resolve(), out=given.out.resolve(),
        repeats=given.repeats or (1 if quick else 3), utterances=given.utterances or (8 if quick else 64),
        batch=given.batch or (8 if quick else 16), quick=quick, exp=given.exp, overrides=tuple(given.overrides),
    )  # fmt: skip
    modules = {name: import_module(place) for name, place in CASES.items()}
    cases = chosen(given.only, {name: module.FIGURES for name, module in modules.items()})
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    measured: list[str] = []
    for case in cases:
        print(f"{case}: {(modules[case].__doc__ or '').splitlines()[0]}", flush=True)
        made_with = about(torch.get_num_threads(), dict(options.settings()))
        figures = modules[case].run(options)
        results = keep(figures, made_with, options.out)
        measured += [figure.name for figure in figures]
    show(results, measured)
    print(f"written: {options.out / 'RESULTS.md'}, {options.out / 'results.json'}")
    return int(any(results[name]["equal"] is False for name in measured))


if __name__ == "__main__":
    sys.exit(main())
