"""The tables of a benchmark, as values: one to read first, then by task, by group and by fault."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from toolkit.scoring.answers import GROUPS
from toolkit.scoring.detectors import DETECTORS, OF_QUESTION
from toolkit.scoring.layout import Cell, FineCell, Table, TaskTable, headed
from toolkit.scoring.metrics import TRANSCRIPTION
from toolkit.scoring.results import TITLES, Results
from toolkit.scoring.scorecard import ALL, Score, Scorecard

ROWS = ("speech", "cascade", "text", "deaf")
DETAILED = ("speech", "cascade")
"""systems whose figures are shown by task"""
OVER_WORDINGS = {"mean": "mean {}", "spread": "spread ↓", "worst": "worst wording {}"}
MAIN = {
    "seen wordings, mean ↑": ("agreement_mean", "seen_wording", ALL),
    "held-out wordings, mean ↑": ("agreement_mean", "held_out_wording", ALL),
    "held-out wordings, spread ↓": ("agreement_spread", "held_out_wording", ALL),
    "held-out wordings, worst ↑": ("agreement_worst", "held_out_wording", ALL),
    "held-out in % of seen ↑": ("agreement_kept", ALL, ALL),
    "held-out tasks, mean ↑": ("agreement_mean", "held_out_task", ALL),
    "constraints kept ↑": ("compliance", ALL, ALL),
    "KL, nats per token ↓": ("kl", ALL, ALL),
    "knowledge kept ↑": ("knowledge", ALL, ALL),
}
Columns = dict[str, tuple[str, str, str]]
"""title -> metric, group, task"""


def tabulate_benchmark(card: Scorecard, name: str) -> Results:
    """Lay out the benchmark of one experiment, which is called `name`. The first table is the one to read."""
    rows = [system for system in ROWS if any(score.system == system for score in card.scores)]
    titles = {system: TITLES[system].format(name=name) for system in rows}
    details = [
        *(_by_task(card, system, titles[system], group) for system in DETAILED if system in rows for group in GROUPS),
        _word_errors(card, titles),
        _table(card, titles, "Constraints kept, by task", _tasks_with_rules(card)),
        _table(
            card, titles, "Behaviour gap, nats per token", {group: ("kl", key, ALL) for key, group in GROUPS.items()}
        ),
        _table(card, titles, "Accuracy on closed tasks", _closed(card)),
        _table(
            card, titles, "Faulty answers", {x.replace("_", " "): (x, ALL, ALL) for x in (*DETECTORS, *OF_QUESTION)}
        ),
    ]
    main = _table(card, titles, "Benchmark", MAIN)
    return Results(
        tables=(main, *(table for table in details if table.rows and table.says_something)),
        definitions={"agreement": card.agreement, "normaliser": card.normaliser, **_shown(card.definitions)},
        experiments={name: {"versions": card.versions, "commit": card.commit, "metadata": card.metadata}},
        examples=(),
    )


def tasks_of(card: Scorecard, metric: str, group: str, *, families: bool = True) -> list[str]:
    """Return what a measure was taken of within a group: its tasks, its families if wanted, then all of it."""
    found = {score.task for score in card.scores if (score.metric, score.group) == (metric, group)}
    pooled = {f"family {family}" for family in card.metadata["families"].values()} & found
    return [*sorted(found - pooled - {ALL}), *(sorted(pooled) if families else ()), *({ALL} & found)]


def _cell(score: Score | None) -> Cell:
    if score is None:
        return Cell(None)
    kind = Cell if score.unit == "%" else FineCell
    figures = (score.value, score.low, score.high)
    value, low, high = (None if x is None else round(x, kind.decimals) + 0.0 for x in figures)
    unparsed, left_out = (int(score.details.get(key, 0)) for key in ("unparsed", "left_out"))
    cut = int(score.details.get("cut_off", 0))
    extra = f"{unparsed} unparsed" if unparsed else f"{cut} cut off" if cut else ""
    if "wordings" in score.details and left_out:
        extra, left_out = f"{left_out} of {score.details['wordings']:.0f} wordings not measurable", 0
    return kind(value, low, high, score.n, score.utterances, left_out, extra, score.note)


def _table(card: Scorecard, titles: dict[str, str], name: str, columns: Columns) -> Table:
    """Fill a table of systems."""
    rows = tuple(
        (title, tuple(_cell(card.find(metric, system, group, task)) for metric, group, task in columns.values()))
        for system, title in titles.items()
    )
    return Table(name, headed(list(columns), [cells for _, cells in rows]), rows)


def _by_task(card: Scorecard, system: str, title: str, group: str) -> Table:
    """Fill the table of one system's agreement over wordings, by task and family."""
    heads = [head.format("↑") for head in OVER_WORDINGS.values()]
    rows = tuple(
        (task, tuple(_cell(card.find(f"agreement_{what}", system, group, task)) for what in OVER_WORDINGS))
        for task in tasks_of(card, "agreement_mean", group)
    )
    return TaskTable(f"Agreement over {GROUPS[group]}, by task: {title}", headed(heads, [x for _, x in rows]), rows)


def _word_errors(card: Scorecard, titles: dict[str, str]) -> Table:
    columns: Columns = {
        f"{name}, {head.format('↓')}": (f"wer_{what}", group, TRANSCRIPTION)
        for group, name in GROUPS.items()
        for what, head in OVER_WORDINGS.items()
        if tasks_of(card, "wer_mean", group)
    }
    return _table(card, titles, "Word error rate over wordings", columns)


def _tasks_with_rules(card: Scorecard) -> Columns:
    return {
        f"{_task_and_rule(task, card.metadata['rules'][task])}, {name}": ("compliance", group, task)
        for group, name in GROUPS.items()
        for task in _without_all(tasks_of(card, "compliance", group))
    }


def _task_and_rule(task: str, rule: str) -> str:
    """Name both, or the rule alone where it is called as the task is."""
    return rule if rule.partition("=")[0] == task else f"{task} ({rule})"


def _shown(definitions: Mapping[str, str]) -> dict[str, str]:
    """Leave out what the page does not show: it has no worked examples."""
    return {name: text for name, text in definitions.items() if name != "examples"}


def _closed(card: Scorecard) -> Columns:
    return {
        f"{task}, {name}": ("accuracy", group, task)
        for group, name in GROUPS.items()
        for task in _without_all(tasks_of(card, "accuracy", group))
    }


def _without_all(tasks: Seq[str]) -> list[str]:
    return [task for task in tasks if task != ALL]
