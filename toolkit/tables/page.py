"""`RESULTS.md` and `results.json` of a table: the page is drawn from the values and adds no figure of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import asdict
from pathlib import Path

from toolkit.scoring.layout import NOTHING, figure
from toolkit.scoring.markdown import HEADINGS, PAGE, VALUES, draw_example, draw_table, escape
from toolkit.scoring.scorecard import write_text
from toolkit.sweep.record import DONE
from toolkit.tables.claims import Verdict
from toolkit.tables.results import DECODING, TRAINING, RowFacts, TableResults, plain_rows

LEGEND = (
    "Each figure is a value with its 95 % interval; of several seeds the mean, with the lowest and the highest in "
    "parentheses. WER: lower is better. Agreement: 100 is the text LLM's own answer, 0 its answer to another "
    f"utterance. {NOTHING}: not run, or not measurable. *deaf*: the same model on another utterance's speech; what it "
    "reaches needs no listening. *published*: what others have printed, and never what this table measures."
)
COMPARISON = {"comparison": "Comparisons"}


def write_table(folder: Path, results: TableResults) -> None:
    """Write the page and its values, by temporary names."""
    plain = {**asdict(results), "hours": plain_rows(results)}
    write_text(folder / VALUES, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / PAGE, render(results))


def render(results: TableResults) -> str:
    """Draw the page."""
    lines = [f"# {escape(results.title)}", "", escape(results.about), "", results.budget, "", LEGEND, ""]
    lines += [*_main(results), ""]
    if results.verdicts:
        lines += ["## Claims", "", *(_verdict(each) for each in results.verdicts), ""]
    for title, path in results.plots.items():
        lines += [f"![{escape(title)}]({path})", ""]
    lines += ["## Rows", "", *_rows(results.rows), "", "## Compute", "", *_compute(results.rows), ""]
    for table in results.tables[1:]:
        lines += [f"## {table.title}", "", *draw_table(table), ""]
    if results.examples:
        lines += ["## Worked examples", "", "Of several seeds the first answers.", ""]
    for position, shown in enumerate(results.examples, start=1):
        lines += [*draw_example(position, shown), ""]
    lines += ["## Definitions", ""]
    headings = {**HEADINGS, **COMPARISON}
    lines += [f"* **{headings[name]}.** {text}" for name, text in results.definitions.items()]
    lines += ["", "## Made with", "", f"`{results.command}`", "", *_made_with(results.rows), ""]
    return "\n".join(lines)


def _main(results: TableResults) -> Iterator[str]:
    """Draw the table to read, with the seeds of each row and what others have published."""
    table, facts = results.tables[0], {row.name: row for row in results.rows}
    heads = [escape(column.title) + (f"<br>{column.count}" if column.count else "") for column in table.columns]
    yield _line(["system", *heads, "seeds", "published"])
    yield _line(["---", *("---:" for _ in heads), "---", "---"])
    sources: list[str] = []
    for name, cells in table.rows:
        figures = [figure(cell, column) for cell, column in zip(cells, table.columns, strict=True)]
        row = facts.get(name)
        last = [_seeds(row), _published(row, sources)] if row else [NOTHING, NOTHING]
        yield _line([escape(name), *figures, *last])
    for note in table.notes:
        yield ""
        yield f"{NOTHING} {escape(note)}"
    if sources:
        yield ""
        yield "Published:"
        yield ""
        yield from (f"{place}. {text}" for place, text in enumerate(sources, start=1))


def _seeds(row: RowFacts) -> str:
    """Name the seeds, and what is wrong with those that are not done."""
    done = [str(cell.seed) for cell in row.cells if cell.state == DONE]
    others = [
        f"{cell.seed} {cell.state}" + (f": {escape(cell.trouble)}" if cell.trouble else "")
        for cell in row.cells
        if cell.state != DONE
    ]
    return "; ".join([", ".join(done), *others] if done else others)


def _published(row: RowFacts, sources: list[str]) -> str:
    """Write what others have published, with the number of its source in the list below."""
    shown = []
    for each in row.published:
        text = escape(f"{each.figure}: {each.value}" if each.figure else each.value)
        told = " ".join(escape(part) for part in (each.note, each.source and f"Source: {each.source}") if part)
        if told:
            sources.append(f"{escape(row.name)}: {told}")
            text += f" ({len(sources)})"
        shown.append(text)
    return "; ".join(shown) or NOTHING


def _verdict(verdict: Verdict) -> str:
    said = {True: "holds", False: "**does not hold**", None: "**cannot be said**"}[verdict.holds]
    return f"* {escape(verdict.claim)}: {said}: {escape(verdict.why)}."


def _rows(rows: Seq[RowFacts]) -> Iterator[str]:
    yield _line(["row", "recipe", "with", "what it is"])
    yield _line(["---"] * 4)
    for row in rows:
        overrides = f"`{' '.join(row.overrides)}`" if row.overrides else ""
        yield _line([escape(row.name), f"`{row.recipe}`", overrides or NOTHING, escape(row.about) if row.about else ""])


def _compute(rows: Seq[RowFacts]) -> Iterator[str]:
    yield _line(["row", "seeds", "steps", "step, ms", "trained, thousands", "training, h", "decoding, h", "all, h"])
    yield _line(["---", *["---:"] * 7])
    for row in rows:
        costs = [made.cost for made in row.made if made.cost is not None]
        steps = sorted({cost.steps for cost in costs})
        times = [cost.step_seconds for cost in costs if cost.step_seconds is not None]
        sizes = [cost.parameters for cost in costs if cost.parameters is not None]
        values = [
            str(len(row.made)),
            " to ".join(map(str, [steps[0], steps[-1]] if len(steps) > 1 else steps)) or NOTHING,
            str(round(1e3 * sum(times) / len(times))) if times else NOTHING,
            str(round(sizes[0] / 1e3)) if sizes else NOTHING,
            *(
                NOTHING if hours is None else f"{hours:.2f}"
                for hours in (row.hours([TRAINING]), row.hours(DECODING), row.hours())
            ),
        ]
        yield _line([escape(row.name), *values])
    yield ""
    yield (
        "Hours are of all seeds of a row together. *All* is from a cell's start to its end, over all attempts: the "
        "first cell makes the data for the others. Times are of this machine and of what else it did."
    )


def _made_with(rows: Seq[RowFacts]) -> Iterator[str]:
    """Say what each cell was made with; like ones share a line."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        for made in row.made:
            versions = ", ".join(f"{package} {version}" for package, version in made.versions.items())
            threads = f", {made.cost.threads} threads" if made.cost and made.cost.threads else ""
            line = (
                f"{versions}; commit {made.commit or 'unknown'}; data {made.data}; "
                f"{made.machine}, {made.processors} processors{threads}"
            )
            alike.setdefault(line, []).append(f"{row.name} (seed {made.seed})")
    for line, names in alike.items():
        yield f"* **{escape(', '.join(names))}**: {line}"


def _line(cells: Seq[str]) -> str:
    return f"| {' | '.join(cells)} |"
