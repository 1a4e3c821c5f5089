"""What a suite leaves behind: `SUITE.md`, `suite.json`, and the raw answers with what the rules say of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from toolkit.scoring.detectors import DEFINITION as DETECTED
from toolkit.scoring.layout import NOTHING, number
from toolkit.scoring.markdown import escape
from toolkit.scoring.scorecard import write_text
from toolkit.suites.scores import DEFINITIONS, FAULTS, Figure, Judged

PAGE, VALUES, ANSWERS = "SUITE.md", "suite.json", "answers.jsonl"
LEGEND = (
    "Each figure is in percent, with its 95 % interval over recordings. Rule *ours*: the suite's own evaluation has no "
    "such measure, or takes another rule (see below). Unparsed answers name no choice, or several, and are wrong."
)
HEADS = ("measure", "%", "95 %", "n", "recordings", "rule", "remarks")
_WORDS = ("part", "measure", "rule", "remarks")
"""columns of text; the others hold numbers"""


@dataclass(frozen=True)
class Result:
    """All that is shown of a suite."""

    name: str
    title: str
    source: str
    figures: tuple[Figure, ...]
    """by part"""
    rules: tuple[Figure, ...]
    """by instruction, over all parts; strict"""
    left_out: dict[str, dict[str, int]]
    """part -> why items were not asked -> how many"""
    not_run: str
    normaliser: str
    made_with: dict[str, Any]


def write_result(folder: Path, result: Result, judged: Seq[Judged], prompts: Mapping[str, str]) -> None:
    """Write the page, its values and the answers, by temporary names."""
    lines = [json.dumps(_line(each, prompts[each.item.id]), ensure_ascii=False) + "\n" for each in judged]
    write_text(folder / ANSWERS, "".join(lines))
    write_text(folder / VALUES, json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / PAGE, render(result))


def render(result: Result) -> str:
    """Draw the page."""
    lines = [f"# {escape(result.title)}", "", f"Read from {escape(result.source)}.", "", LEGEND, ""]
    lines += [*_table("part", [(each.part, each) for each in result.figures]), ""]
    if result.rules:
        lines += ["## Each instruction, strict", "", *_table("", [("", each) for each in result.rules]), ""]
    if result.left_out:
        lines += ["## Not asked", "", *(f"* {escape(note)}" for note in left_notes(result)), ""]
    lines += ["## What is not run", "", result.not_run, "", "## Definitions", ""]
    used = {each.measure for each in result.figures}
    lines += [f"* **{name}.** {text}" for name, text in DEFINITIONS.items() if name in used]
    lines += [f"* **{', '.join(FAULTS)}.** {DETECTED}"] if used & set(FAULTS) else []
    lines += [f"* **Normaliser.** {result.normaliser}", ""]
    facts = ", ".join(f"{key} {value}" for key, value in result.made_with.items() if value not in (None, ""))
    return "\n".join([*lines, "## Made with", "", f"{escape(facts)}.", ""])


def _table(head: str, figures: Seq[tuple[str, Figure]]) -> list[str]:
    heads = [head, *HEADS] if head else list(HEADS)
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' if name in _WORDS else '---:' for name in heads)} |"]
    for part, each in figures:
        cells = [escape(cell) if cell else "" for cell in ([part] if head else []) + _cells(each)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw_result(result: Result) -> Group:
    """Draw the table for a terminal, without faults that nobody made, and below it what was not asked."""
    drawn = RichTable(title=result.title, box=SIMPLE_HEAD, title_justify="left")
    for name in ("", "%", "95 %", "n", "", ""):
        drawn.add_column(name, justify="right" if name else "left", overflow="fold")
    before = ""
    for each in result.figures:
        if each.part != before:
            drawn.add_row(Text(each.part, "bold"))
            before = each.part
        if each.value or each.measure not in FAULTS:
            measure, value, interval, n, _, rule, remarks = _cells(each)
            drawn.add_row("  " + measure, value, Text(interval, "dim"), n, rule, remarks)
    return Group(drawn, *(Text(f"not asked: {note}", "dim") for note in left_notes(result)))


def left_notes(result: Result) -> list[str]:
    """Say, part by part, how many items were not asked, and why."""
    return [
        f"{part}: {', '.join(f'{count} {why}' for why, count in reasons.items())}"
        for part, reasons in result.left_out.items()
    ]


def _cells(each: Figure) -> list[str]:
    """Write a figure, in the order of `HEADS`."""
    interval = "" if each.low is None or each.high is None else f"{number(each.low)} to {number(each.high)}"
    remarks = [f"{count} {what}" for what, count in each.details.items() if count] + ([each.note] if each.note else [])
    value = NOTHING if each.value is None else number(each.value)
    return [each.measure, value, interval, str(each.n), str(each.units), each.rule, "; ".join(remarks)]


def _line(judged: Judged, prompt: str) -> dict[str, Any]:
    """Return what is kept of an item: enough to score it again by any other rule."""
    item = judged.item
    return {
        "id": item.id, "part": item.part, "row": dict(item.meta), "prompt": prompt, "answer": judged.answer.hypothesis,
        "complete": judged.answer.complete, "reference": item.reference, "options": item.options,
        "instruction_id_list": [rule.id for rule in item.rules],
        "kwargs": [dict(rule.arguments) for rule in item.rules], **judged.verdict,
    }  # fmt: skip
