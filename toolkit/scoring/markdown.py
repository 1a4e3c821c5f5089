"""`RESULTS.md` and `results.json`: the page is drawn from the JSON values and adds no figure of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.scoring.answers import GROUPS
from toolkit.scoring.layout import NOTHING, Cell, Column, Table, figure
from toolkit.scoring.results import Results, Shown, tabulate
from toolkit.scoring.scorecard import Scorecard, WorkedExample, write_text

PAGE, VALUES = "RESULTS.md", "results.json"
CAPTION = (
    "Each figure is a value with its 95 % interval. WER: lower is better. Agreement: 100 is the text LLM's "
    f"own answer, 0 its answer to another utterance. {NOTHING}: not run, or not measurable. *deaf*: the same "
    "model on another utterance's speech; what it reaches needs no listening."
)
HEADINGS = {
    "wer": "Word error rate", "normaliser": "Normaliser", "agreement": "Agreement", "accuracy": "Accuracy",
    "wordings": "Over wordings", "constraints": "Constraints", "gap": "Behaviour gap", "knowledge": "Knowledge kept",
    "faults": "Faults", "interval": "Intervals", "examples": "Examples",
}  # fmt: skip


def write_results(folder: Path, experiments: Mapping[str, Scorecard], examples: int = 3) -> Results:
    """Write `results.json` and `RESULTS.md` for some experiments.

    Args:
        folder: where both go.
        experiments: name -> scorecard, in the order of the rows.
        examples: number of worked examples.

    Raises:
        DataError: the experiments cannot be compared.
    """
    results = tabulate(experiments, examples)
    plain = asdict(results)
    write_text(folder / VALUES, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / PAGE, render_markdown(results))
    return results


def read_results(path: Path) -> Results:
    """Read `results.json` as `write_results` wrote it."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    return Results(
        tables=tuple(_table(table) for table in plain["tables"]),
        definitions=plain["definitions"],
        experiments=plain["experiments"],
        examples=tuple(
            Shown(WorkedExample(**shown["example"]), shown["speech"], shown["text"]) for shown in plain["examples"]
        ),
    )


def render_markdown(results: Results) -> str:
    """Draw the page."""
    main, *others = results.tables
    lines = ["# Results", "", CAPTION, "", *draw_table(main), ""]
    for table in others:
        lines += [f"## {table.title}", "", *draw_table(table), ""]
    if results.examples:
        lines += ["## Worked examples", ""]
    for position, shown in enumerate(results.examples, start=1):
        lines += [*draw_example(position, shown), ""]
    lines += ["## Definitions", ""]
    lines += [f"* **{title}.** {text}" for title, text in defined(results)]
    lines += ["", "## Made with", "", *made_with(results), ""]
    return "\n".join(lines)


def defined(results: Results) -> list[tuple[str, str]]:
    """Return the definitions as (heading, text), in the order of reading."""
    return [(title, results.definitions[name]) for name, title in HEADINGS.items() if name in results.definitions]


def made_with(results: Results) -> Iterator[str]:
    """Say which versions, commit and seed each experiment's scores come from; like ones share a line."""
    alike: dict[str, list[str]] = {}
    for name, made in results.experiments.items():
        versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
        seed = made["metadata"].get("seed")
        training = "" if seed is None else f"; seed {seed}"
        line = f"{versions}; commit {made['commit'] or 'unknown'}{training}"
        alike.setdefault(line, []).append(escape(name))
    for line, names in alike.items():
        yield f"* **{', '.join(names)}**: {line}"


def draw_table(table: Table) -> Iterator[str]:
    """Yield the lines of one table, with its notes under it."""
    heads = [escape(column.title) + (f"<br>{column.count}" if column.count else "") for column in table.columns]
    yield _line([table.corner, *heads])
    yield _line(["---", *("---:" for _ in heads)])
    for name, cells in table.rows:
        figures = (figure(cell, column) for cell, column in zip(cells, table.columns, strict=True))
        yield _line([escape(name), *figures])
    for note in table.notes:
        yield ""
        yield f"{NOTHING} {escape(note)}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def draw_example(position: int, shown: Shown) -> Iterator[str]:
    """Draw one worked example: the question, and what was said to it."""
    example = shown.example
    yield f"### {position}. {escape(example.task)} ({GROUPS[example.group]})"
    yield ""
    yield f"* utterance: {escape(example.id)}"
    yield f"* transcript: {escape(example.transcript)}"
    yield f"* prompt: {escape(example.prompt)}"
    for name, answer in shown.text.items():
        yield f"* answer to the true transcript, {escape(name)}: {escape(answer)}"
    for name, answer in shown.speech.items():
        yield f"* answer to the speech, {escape(name)}: {escape(answer)}"


def escape(text: str) -> str:
    """Make text of the data one line that Markdown shows as it is."""
    plain = re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))
    return plain or "(empty)"


def _table(plain: dict[str, Any]) -> Table:
    return Table(
        plain["title"],
        tuple(Column(**column) for column in plain["columns"]),
        tuple((name, tuple(Cell(**cell) for cell in cells)) for name, cells in plain["rows"]),
    )
