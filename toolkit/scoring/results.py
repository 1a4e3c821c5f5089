"""Several experiments side by side: every table of `RESULTS.md`, as plain values in `results.json`.

Systems that do not depend on the experiment (topline, cascade) have one row if all experiments found the same
figures for them, else one row for each finding: nothing is averaged and nothing hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

from toolkit.errors import DataError
from toolkit.scoring.answers import GROUPS
from toolkit.scoring.detectors import DETECTORS
from toolkit.scoring.layout import Cell, Table, headed
from toolkit.scoring.metrics import TRANSCRIPTION
from toolkit.scoring.scorecard import ALL, Score, Scorecard, WorkedExample

DECIMALS = 1
TITLES = {
    "speech": "{name}",
    "cascade": "cascade",
    "text": "topline (text LLM)",
    "deaf": "{name}, deaf",
    "other": "text LLM, other transcript",
}
OWN = ("speech", "deaf")
"""systems that every experiment has for itself"""


@dataclass(frozen=True)
class Shown:
    """A worked example with the answers of the rows, by the rows' names."""

    example: WorkedExample
    speech: dict[str, str]
    text: dict[str, str]


@dataclass(frozen=True)
class Results:
    """All that is printed about some experiments. The first table is the one to read."""

    tables: tuple[Table, ...]
    definitions: dict[str, str]
    experiments: dict[str, dict[str, Any]]
    """name -> versions, commit, metadata"""
    examples: tuple[Shown, ...]


@dataclass(frozen=True)
class _Row:
    title: str
    system: str
    card: Scorecard | None
    """None where the system was not run"""


def tabulate(experiments: Mapping[str, Scorecard], examples: int = 3) -> Results:
    """Lay experiments side by side.

    Args:
        experiments: name -> scorecard, in the order of the rows.
        examples: number of worked examples to show.

    Raises:
        DataError: there are none, or they did not answer the same questions or measured differently.
    """
    _check_comparable(experiments)
    first = next(iter(experiments.values()))
    rows = [row for system in ("speech", "cascade", "text", "deaf") for row in _rows(experiments, system)]
    all_rows = [*rows, *_rows(experiments, "other")]
    details = [*_by_task(first, rows), _accuracy(first, all_rows), *_word_errors(rows), _faults(all_rows)]
    return Results(
        tables=(_main(rows), *(table for table in details if table.says_something)),
        definitions={"agreement": first.agreement, "normaliser": first.normaliser, **first.definitions},
        experiments={
            name: {"versions": card.versions, "commit": card.commit, "metadata": card.metadata}
            for name, card in experiments.items()
        },
        examples=tuple(_shown(example, rows) for example in first.examples[:examples]),
    )


def _check_comparable(experiments: Mapping[str, Scorecard]) -> None:
    if not experiments:
        raise DataError("there is no experiment to tabulate")
    (first_name, first), *others = experiments.items()
    for name, card in others:
        for what in ("questions", "normaliser", "agreement", "definitions"):
            if getattr(card, what) != getattr(first, what):
                raise DataError(
                    f"'{first_name}' and '{name}' cannot stand in one table, since their {what} differ: "
                    "decode the same split and score both with the same options and versions"
                )


def _rows(experiments: Mapping[str, Scorecard], system: str) -> list[_Row]:
    """Make the rows of a system; one of its own per experiment, or one per distinct finding."""
    if system in OWN:
        return [_Row(TITLES[system].format(name=name), system, card) for name, card in experiments.items()]
    findings: list[tuple[Scorecard, list[Score], list[str]]] = []
    for name, card in experiments.items():
        scores = [score for score in card.scores if score.system == system]
        same = next((names for _, known, names in findings if known == scores), None)
        if same is not None:
            same.append(name)
        elif scores:
            findings.append((card, scores, [name]))
    if len(findings) <= 1:
        return [_Row(TITLES[system], system, findings[0][0] if findings else None)]
    return [_Row(f"{TITLES[system]} ({', '.join(names)})", system, card) for card, _, names in findings]


def _cell(score: Score | None) -> Cell:
    if score is None:
        return Cell(None)
    unparsed, left_out = (int(score.details.get(name, 0)) for name in ("unparsed", "left_out"))
    value, low, high = (None if x is None else round(x, DECIMALS) + 0.0 for x in (score.value, score.low, score.high))
    return Cell(
        value, low, high, score.n, score.utterances, left_out,
        extra=f"{unparsed} unparsed" if unparsed else "", note=score.note,
    )  # fmt: skip


def _table(title: str, rows: Seq[_Row], columns: Mapping[str, Callable[[Scorecard, str], Cell]]) -> Table:
    """Fill a table: each column is a function from (scorecard, system) to a cell."""
    cells = [
        [Cell(None) if row.card is None else make(row.card, row.system) for make in columns.values()] for row in rows
    ]
    filled = tuple((row.title, tuple(line)) for row, line in zip(rows, cells, strict=True))
    return Table(title, headed(list(columns), cells), filled)


def _figure(metric: str, group: str, task: str) -> Callable[[Scorecard, str], Cell]:
    return lambda card, system: _cell(card.find(metric, system, group, task))


def _main(rows: Seq[_Row]) -> Table:
    wordings = ("seen_wording", "held_out_wording")
    columns = {f"WER, {GROUPS[group]} ↓": _figure("wer", group, TRANSCRIPTION) for group in wordings}
    columns |= {f"agreement, {GROUPS[group]} ↑": _figure("agreement", group, ALL) for group in GROUPS}
    return _table("Scores", rows, columns)


def _by_task(card: Scorecard, rows: Seq[_Row]) -> list[Table]:
    tables = []
    for group, title in GROUPS.items():
        tasks = _tasks(card, "agreement", group)
        columns = {task: _figure("agreement", group, task) for task in tasks}
        tables.append(_table(f"Agreement by task: {title}", rows, columns))
    return tables


def _accuracy(card: Scorecard, rows: Seq[_Row]) -> Table:
    columns = {
        f"{task}, {title}": _figure("accuracy", group, task)
        for group, title in GROUPS.items()
        for task in _tasks(card, "accuracy", group)
    }
    return _table("Accuracy on closed tasks", rows, columns)


def _word_errors(rows: Seq[_Row]) -> list[Table]:
    def count(group: str, what: str) -> Callable[[Scorecard, str], Cell]:
        def make(card: Scorecard, system: str) -> Cell:
            score = card.find("wer", system, group, TRANSCRIPTION)
            if score is None:
                return Cell(None)
            return Cell(int(score.details[what]), n=score.n, utterances=score.utterances)

        return make

    kinds = ("insertions", "deletions", "substitutions", "words")
    return [
        _table(f"Word errors, counted: {title}", rows, {kind: count(group, kind) for kind in kinds})
        for group, title in GROUPS.items()
    ]


def _faults(rows: Seq[_Row]) -> Table:
    columns = {name.replace("_", " "): _figure(name, ALL, ALL) for name in DETECTORS}
    return _table("Faulty answers", rows, columns)


def _tasks(card: Scorecard, metric: str, group: str) -> list[str]:
    found = {score.task for score in card.scores if score.metric == metric and score.group == group}
    return sorted(found - {ALL})


def _shown(example: WorkedExample, rows: Seq[_Row]) -> Shown:
    """Gather what the rows' systems said to one question."""
    key = example.id, example.task, example.prompt

    def said(system: str) -> dict[str, str]:
        answers = {}
        for row in rows:
            if row.system != system or row.card is None:
                continue
            for same in row.card.examples:
                if (same.id, same.task, same.prompt) == key and system in same.answers:
                    answers[row.title] = same.answers[system]
        return answers

    return Shown(replace(example, answers={}, heard={}), said("speech"), said("text"))
