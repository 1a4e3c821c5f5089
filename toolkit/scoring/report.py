"""`report.html`: one experiment on one page that needs nothing but itself.

All text of the data goes through `html.escape`; nothing is loaded from elsewhere, and there are no scripts.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterator
from pathlib import Path

from toolkit.scoring.answers import GROUPS
from toolkit.scoring.curves import LOG, Phase, draw, read_log
from toolkit.scoring.layout import NOTHING, Table, figure
from toolkit.scoring.markdown import defined
from toolkit.scoring.normalisation import basic
from toolkit.scoring.page import LEGEND, PAGE
from toolkit.scoring.results import Results, Shown, tabulate
from toolkit.scoring.scorecard import Scorecard, write_text

FILE = "report.html"
NO_LOG = f"There are no training curves, since there is no <code>{LOG}</code> in this experiment's folder."
EMPTY = '<span class="empty">(empty)</span>'


def write_report(exp_dir: Path, name: str, card: Scorecard) -> Path:
    """Write the report of an experiment into its folder.

    Args:
        exp_dir: the folder, which may hold `train_log.jsonl`.
        name: what the experiment is called.
        card: its scores.

    Raises:
        DataError: the training log cannot be read.
    """
    results = tabulate({name: card}, len(card.examples))
    path = exp_dir / FILE
    write_text(path, render_report(name, results, read_log(exp_dir / LOG)))
    return path


def render_report(name: str, results: Results, phases: list[Phase]) -> str:
    """Draw the page as one HTML text."""
    main, *others = results.tables
    made = results.experiments[name]
    parts = {
        "name": html.escape(name),
        "subtitle": html.escape(_subtitle(name, results)),
        "scores": _table(main),
        "curves": "".join(_curves(phase) for phase in phases) or f"<p>{NO_LOG}</p>",
        "legend": LEGEND,
        "examples": "".join(_example(shown) for shown in results.examples) or "<p>There are none.</p>",
        "details": "".join(f"<h3>{html.escape(table.title)}</h3>{_table(table)}" for table in others),
        "definitions": "".join(
            f"<dt>{html.escape(title)}</dt><dd>{html.escape(text)}</dd>" for title, text in defined(results)
        ),
        "versions": html.escape(", ".join(f"{package} {found}" for package, found in made["versions"].items())),
    }
    return PAGE.substitute(parts)


def _subtitle(name: str, results: Results) -> str:
    made = results.experiments[name]
    known = {**made["metadata"], "commit": made["commit"] or "unknown"}
    return " · ".join(f"{key} {known[key]}" for key in ("split", "seed", "commit") if key in known)


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col">{html.escape(column.title)}<small>{html.escape(column.count)}</small></th>'
        for column in table.columns
    )
    rows = []
    for name, cells in table.rows:
        line = "".join(_cell(figure(cell, column)) for cell, column in zip(cells, table.columns, strict=True))
        rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{line}</tr>')
    notes = "".join(f'<p class="note">{NOTHING} {html.escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">{table.corner}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{notes}"
    )


def _cell(text: str) -> str:
    value, _, rest = text.partition(" ")
    return f"<td>{html.escape(value)}<small>{html.escape(rest)}</small></td>"


def _curves(phase: Phase) -> str:
    title = html.escape(phase.name.replace("_", " ") or "training")
    caption = f"{title}: {phase.last} steps, {phase.seconds / 60:.0f} minutes"
    return f"<figure><figcaption>{caption}</figcaption>{draw(phase)}</figure>"


def _example(shown: Shown) -> str:
    example = shown.example
    answers = "".join(_answers(shown))
    return (
        f'<article><h3>{html.escape(example.task)} <span class="group">{GROUPS[example.group]}</span></h3>'
        f"<dl><dt>said</dt><dd>{html.escape(example.transcript) or EMPTY}</dd>"
        f"<dt>prompt</dt><dd>{html.escape(example.prompt)}</dd></dl>"
        f'<div class="answers">{answers}</div>'
        f'<p class="note">{html.escape(example.id)}</p></article>'
    )


def _answers(shown: Shown) -> Iterator[str]:
    reference = shown.example.reference
    for name, answer in shown.speech.items():
        marked = mark(answer, reference)
        yield f"<section><h4>to the speech: {html.escape(name)}</h4><p>{marked}</p></section>"
    for name, answer in shown.text.items():
        text = html.escape(answer) or EMPTY
        yield f"<section><h4>to the transcript: {html.escape(name)}</h4><p>{text}</p></section>"


def mark(answer: str, reference: str) -> str:
    """Return the answer as HTML with words that the reference lacks in `<mark>`, missing ones in `<del>`.

    Words are compared without case and punctuation, by a longest-match difference; it is an aid to reading,
    and counts nothing.
    """
    said, wanted = answer.split(), reference.split()
    matcher = difflib.SequenceMatcher(
        a=[basic(word) for word in wanted], b=[basic(word) for word in said], autojunk=False
    )
    pieces = []
    for what, wanted_from, wanted_to, said_from, said_to in matcher.get_opcodes():
        words = html.escape(" ".join(said[said_from:said_to]))
        missing = html.escape(" ".join(wanted[wanted_from:wanted_to]))
        if what == "equal":
            pieces.append(words)
            continue
        if missing:
            pieces.append(f"<del>{missing}</del>")
        if words:
            pieces.append(f"<mark>{words}</mark>")
    return " ".join(pieces) if said else " ".join([EMPTY, *pieces])
