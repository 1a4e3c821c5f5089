"""`toolkit table FOLDER`, of a folder with a table.yaml: runs what is missing, keeps the answers, writes the page."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from contextlib import chdir
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from toolkit.config import load_parts, root
from toolkit.errors import ConfigError, DataError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.markdown import PAGE, VALUES
from toolkit.scoring.terminal import draw
from toolkit.stages.progress import say
from toolkit.sweep.command import interrupt
from toolkit.sweep.record import DONE, read_record
from toolkit.sweep.run import check_same, run_cells
from toolkit.tables.cells import TableCell, choose, plan_cells, with_warm
from toolkit.tables.estimate import estimate_seconds
from toolkit.tables.kept import check_kept, keep, read_made
from toolkit.tables.page import write_table
from toolkit.tables.plots import write_plots
from toolkit.tables.results import Source, TableResults, gather, load
from toolkit.tables.spec import FILE, find_spec, read_spec

ANSWERS = "answers"


def main(argv: list[str], about: str) -> int:
    """Run `toolkit table ARGV...` on a table.yaml; `about` says what it does.

    Returns:
        0 if all that was asked for is done, else 1.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    options = _parser(about).parse_intermixed_args(argv)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    load_parts()
    path = find_spec(options.table)
    if path is None:
        raise DataError(f"there is no {FILE} in {options.table}")
    place = path.resolve()
    # Paths of the corpus and its overlays are relative to its folder, as for run.sh.
    with chdir(place.parent):
        return _table(options, Path(place.name), place)


def _table(options: argparse.Namespace, path: Path, place: Path) -> int:
    spec = read_spec(path)
    answers = options.out / ANSWERS
    cells = plan_cells(spec, options.exp, options.overrides)
    names, seeds = ([each for each in text.split(",") if each] for text in (options.only, options.seeds))
    chosen = choose(spec, cells, names, _numbers(seeds))
    kept = {name: check_kept(cell, answers) for name, cell in cells.items() if cell.shown}
    check_same({cell.folder: cell.job.overrides for cell in cells.values()})
    config = next(iter(cells.values())).config
    source = Source(
        spec, f"Results: {place.parent.name if path.name == FILE else place.stem}", _command(place, options),
        answers, config.score.normaliser, Resampling(config.score.bootstrap), config.score.examples,
    )  # fmt: skip
    if options.dry_run:
        Console().print(_plan(cells, chosen, kept))
        return 0
    if options.rescore:
        results = _write(options.out, source, cells)
    else:
        results = _run(options, source, cells, [cell for cell in chosen if not kept[cell.name]])
    Console().print(draw(results.tables[0]))
    for verdict in results.verdicts:
        say(f"{verdict.claim}: {({True: 'holds', False: 'DOES NOT HOLD', None: 'cannot be said'})[verdict.holds]}")
    say(f"written: {options.out / PAGE}, {options.out / VALUES}")
    return 0 if all(read_made(answers / cell.name) for cell in chosen) else 1


def _run(
    options: argparse.Namespace, source: Source, cells: Mapping[str, TableCell], missing: Seq[TableCell]
) -> TableResults:
    """Run cells whose answers are not kept, keep those that they give, and write the page whenever one has ended."""

    def tell() -> None:
        for cell in missing:
            record = read_record(cell.folder)
            if record is not None and record.state == DONE and read_made(source.answers / cell.name) is None:
                keep(cell, source.answers)
        _write(options.out, source, cells)

    if left := len([cell for cell in cells.values() if cell.shown]) - len(missing):
        say(f"table: {left} systems are done or not asked for")
    signal.signal(signal.SIGTERM, interrupt)
    if missing:
        run_cells(with_warm(cells, missing), options.jobs, tell, "table")
    return _write(options.out, source, cells)


def _write(out: Path, source: Source, cells: Mapping[str, TableCell]) -> TableResults:
    shown = [cell for cell in cells.values() if cell.shown]
    results = gather(source, cells, load(source, shown))
    results.plots.update(write_plots(out, source.spec, results.tables[0]))
    write_table(out, results)
    return results


def _plan(cells: Mapping[str, TableCell], chosen: Seq[TableCell], kept: Mapping[str, bool]) -> RichTable:
    """Lay out what is done, what is missing and how long that will take."""
    todo = {*with_warm(cells, [cell for cell in chosen if not kept[cell.name]])}
    drawn = RichTable(box=None, pad_edge=False)
    for title in ("cell", "state", "hours left"):
        drawn.add_column(title)
    total, more = 0.0, False
    for name, cell in cells.items():
        record = read_record(cell.folder)
        state = "answers kept" if kept.get(name) else record.state if record else "missing"
        if state in ("answers kept", DONE) or cell.folder not in todo:
            drawn.add_row(name, state if state != "missing" else "missing, not asked for", "")
            continue
        seconds, unknown = estimate_seconds(cell, cells.values())
        total += seconds
        more = more or bool(unknown)
        drawn.add_row(name, state, f"{seconds / 3600:.2f}" + (f" and {', '.join(unknown)}" if unknown else ""))
    drawn.add_row("all", "", f"{total / 3600:.2f}" + (" and what none like them has been run for" if more else ""))
    return drawn


def _command(place: Path, options: argparse.Namespace) -> str:
    """Return what makes this table again, without where the checkout lies or how the run was divided."""
    folder = place.parent if place.name == FILE else place
    here = root().resolve()
    shown = folder.relative_to(here).as_posix() if folder.is_relative_to(here) else folder.name
    return shlex.join(["toolkit", "table", shown, *options.overrides])


def _numbers(seeds: Seq[str]) -> list[int]:
    if wrong := [seed for seed in seeds if not seed.isdecimal()]:
        raise ConfigError(f"--seeds is whole numbers, such as 1,2, not '{wrong[0]}'")
    return [int(seed) for seed in seeds]


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit table",
        description=f"{about}. Of a folder with a {FILE}: runs what is missing and writes the table anew whenever a "
        "cell has ended; exit status 1 if one that was asked for is not done.",
        epilog="For example: toolkit table egs/mini --only mtbi,blsp --seeds 1",
    )
    parser.add_argument("table", type=Path, help=f"folder with a {FILE}, or such a file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for all cells; they have the last word")
    parser.add_argument("--only", default="", metavar="A,B", help="run these rows alone")
    parser.add_argument("--seeds", default="", metavar="1,2", help="run these seeds alone")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells side by side: they slow each other (1)")
    parser.add_argument("--exp", type=Path, default=Path("exp/table"), metavar="DIR", help="of the cells (exp/table)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help=f"of the page and {ANSWERS}/ (.)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what is done, what is missing and how long it takes"
    )
    parser.add_argument("--rescore", action="store_true", help="make the page from the kept answers; run nothing")
    return parser
