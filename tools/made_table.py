"""A table in a README that is made from the project itself: written anew, or checked to be so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
END = "<!-- end of what is made -->\n"


def table(head: Seq[str], rows: Iterable[Seq[object]]) -> str:
    """Write a Markdown table."""
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in [head, ["---"] * len(head), *rows])


def renewed(page: str, tool: str, made: str) -> str:
    """Return a page with what `tool` makes in it, behind a comment that says so, made anew."""
    begin = f"<!-- made by {tool} -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{made}\n{END}{after}"


def main(readme: Path, tool: str, about: str, renew: Callable[[str], str]) -> int:
    """Write the table, or with `--check` say whether it is stale; returns the exit status."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is stale")
    check = parser.parse_args().check
    page = readme.read_text()
    new = renew(page)
    if check and new != page:
        print(f"{readme.relative_to(ROOT)} is stale: run python {tool}", file=sys.stderr)
        return 1
    if not check:
        readme.write_text(new)
    return 0
