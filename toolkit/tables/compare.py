"""`toolkit compare A B`: how far two systems are apart on the same questions, each figure with interval and test."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from toolkit.errors import ConfigError, DataError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.comparison import Difference, difference, paired_test
from toolkit.scoring.figures import MODEL, Answered, count
from toolkit.scoring.layout import NOTHING
from toolkit.scoring.markdown import escape
from toolkit.scoring.scorecard import ALL, DECIMALS, write_text
from toolkit.stages.progress import say
from toolkit.stages.score import find_answers
from toolkit.tables.kept import ENDING, kept_files, kept_seeds, read_made
from toolkit.tables.rows import Rows

ONE = 0
"""stands for the seed of an experiment, or of one cell, that is compared as it is"""


@dataclass(frozen=True)
class Compared:
    """One figure of two systems."""

    figure: str
    first: float | None
    second: float | None
    difference: Difference
    better: str
    """the system that is better, if the whole interval of the difference says so; else nothing"""


@dataclass(frozen=True)
class Comparison:
    """All figures of two systems."""

    first: str
    second: str
    seeds: str
    """that they are compared on; nothing where none are known"""
    test: str
    figures: tuple[Compared, ...]

    @property
    def title(self) -> str:
        """What is taken from what."""
        return f"{self.first} - {self.second}" + (f", {self.seeds}" if self.seeds else "")


def compare(
    first: str, second: str, answered: Mapping[str, Mapping[int, Answered]], resampling: Resampling,
    *, untrained: Seq[str] = (), by_task: bool = False,
) -> Comparison:  # fmt: skip
    """Compare two systems on every figure that both have.

    Args:
        first: name of one.
        second: name of the other.
        answered: name -> seed -> answers.
        resampling: how differences are drawn.
        untrained: systems that are the same for all seeds.
        by_task: each task as well.

    Raises:
        DataError: they did not answer the same questions.
    """
    rows = Rows(answered, resampling, untrained)
    found, seeds = [], ""
    for figure in rows.figures():
        whole = figure.task == ALL or figure.metric == "wer"
        if figure.system != MODEL or not (whole or by_task):
            continue
        one, other, seeds = rows.pair(first, figure, second, figure)
        apart = difference(one, other, resampling)
        better = ""
        if apart.value is not None and apart.excludes_zero:
            better = first if (apart.value < 0) == figure.lower_is_better else second
        found.append(Compared(figure.title, _rounded(one.value), _rounded(other.value), apart, better))
    seeds = "" if set(rows.seeds(first) + rows.seeds(second)) == {ONE} else seeds
    return Comparison(first, second, seeds, paired_test(resampling), tuple(found))


def main(argv: list[str], about: str) -> int:
    """Run `toolkit compare ARGV...`; `about` says what it does.

    Raises:
        ToolkitError: something a user can act on, for the caller to show.
        SystemExit: help was asked for, or the words make no sense (argparse).
    """
    options = _parser(about).parse_args(argv)
    if options.resamples < 1:
        raise ConfigError("--resamples is at least 1")
    if options.out is not None and options.out.suffix not in (".md", ".json"):
        raise ConfigError(f"--out is a file that ends in .md or .json, not {options.out}")
    sides = [_read(place, options.split, options.normaliser) for place in (options.first, options.second)]
    names = _names(options.first, options.second)
    compared = compare(
        *names,
        {name: answered for name, (answered, _) in zip(names, sides, strict=True)},
        Resampling(options.resamples),
        untrained=[name for name, (_, same) in zip(names, sides, strict=True) if same],
        by_task=options.by_task,
    )
    Console().print(_drawn(compared))
    if options.out is not None:
        plain = json.dumps(asdict(compared), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_text(options.out, plain if options.out.suffix == ".json" else render(compared))
        say(f"written: {options.out}")
    return 0


def render(compared: Comparison) -> str:
    """Draw a comparison as Markdown."""
    first, second = escape(compared.first), escape(compared.second)
    lines = [f"# {first} and {second}", "", f"{escape(compared.title)}.", ""]
    lines += [f"| figure | {first} | {second} | difference | p | better |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(escape(text) for text in _line(each))} |" for each in compared.figures]
    return "\n".join([*lines, "", compared.test, ""])


def _drawn(compared: Comparison) -> Table:
    """Draw a comparison for a terminal."""
    drawn = Table(
        title=compared.title, box=SIMPLE_HEAD, caption=compared.test,
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    for head in ("figure", compared.first, compared.second, "difference", "p", "better"):
        drawn.add_column(head, justify="left" if head in ("figure", "better") else "right")
    for each in compared.figures:
        drawn.add_row(*_line(each))
    return drawn


def _line(each: Compared) -> tuple[str, ...]:
    """Write one figure: value, value, difference, p, which is better."""
    apart = each.difference
    interval = "" if apart.low is None else f" [{_number(apart.low)}, {_number(apart.high)}]"
    remark = f" ({apart.note})" if apart.note else ""
    p = NOTHING if apart.p is None else f"{apart.p:.3f}"
    counted = f"{each.figure}, n = {apart.n} ({apart.utterances} utt.)"
    values = _number(each.first), _number(each.second), _number(apart.value) + interval + remark
    return (counted, *values, p, each.better or "neither")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS) + 0.0


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{round(value, 1) + 0.0:.1f}"


def _read(place: Path, split: str, normaliser: str) -> tuple[dict[int, Answered], bool]:
    """Read the answers of an experiment, of a kept cell, or of all seeds of a kept row.

    Returns:
        seed -> answers; and whether it is the same for all seeds, since nothing was trained.

    Raises:
        DataError: it is none of these.
    """
    if (place / "decode" / split).is_dir():
        return {ONE: count(find_answers(place / "decode" / split), normaliser)}, False
    # A cell that is named is compared as it is, whatever its seed.
    cells = {ONE: place} if (place / f"speech{ENDING}").is_file() else kept_seeds(place)
    if not cells:
        raise DataError(
            f"{place} is neither an experiment that was decoded (it has no decode/{split}) nor the kept answers of a "
            "table, such as egs/mini/answers/mtbi.1 or, for all seeds, egs/mini/answers/mtbi"
        )
    made = [read_made(folder) for folder in cells.values()]
    untrained = all(each is not None and not each.trained for each in made)
    return {seed: count(kept_files(folder), normaliser) for seed, folder in cells.items()}, untrained


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Call two places by their last part, or by all of it where that is the same."""
    one, other = first.resolve().name, second.resolve().name
    if one != other:
        return one, other
    if str(first) == str(second):
        raise ConfigError(f"{first} is compared with itself")
    return str(first), str(second)


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toolkit compare",
        description=f"{about}: A - B, paired by (id, task, prompt), with a 95 % interval and a two-sided test.",
        epilog="For example: toolkit compare egs/mini/answers/mtbi egs/mini/answers/blsp",
    )
    what = "experiment folder that was decoded, or kept answers of a table: of a row (all seeds) or of one seed"
    parser.add_argument("first", type=Path, metavar="A", help=what)
    parser.add_argument("second", type=Path, metavar="B", help="the same")
    parser.add_argument("--split", default="test", help="of the experiments (test)")
    parser.add_argument("--by-task", action="store_true", help="each task as well")
    parser.add_argument(
        "--normaliser", default="english", help="for word error rates: english, basic or none (english)"
    )
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (1000)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there too: .md or .json")
    return parser
