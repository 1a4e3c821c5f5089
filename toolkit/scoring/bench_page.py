"""`BENCH.md`: the benchmark of one experiment on one page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolkit.scoring.answers import GROUPS
from toolkit.scoring.bench_tables import DETAILED, tabulate_benchmark, tasks_of
from toolkit.scoring.layout import NOTHING, TaskTable
from toolkit.scoring.markdown import defined, draw_table, escape, made_with
from toolkit.scoring.results import TITLES, Results
from toolkit.scoring.scorecard import ALL, Scorecard, write_text

PAGE = "BENCH.md"
CAPTION = (
    "Each figure is a value with its 95 % interval. Agreement, on which all but the last three columns are: 100 is the "
    "text LLM's own answer, 0 its answer to another utterance. Mean, spread and worst are over the wordings of a task. "
    "KL: 0 is the text LLM itself. *deaf*: the same model on another utterance's speech; what it reaches needs no "
    f"listening. {NOTHING}: not run, or not measurable."
)
NO_UNPARSED = "Every answer to a closed task names exactly one of its choices, or there is no closed task."


def write_benchmark(folder: Path, name: str, card: Scorecard) -> Results:
    """Write `BENCH.md` of an experiment that is called `name`; returns what stands in it."""
    results = tabulate_benchmark(card, name)
    write_text(folder / PAGE, render_benchmark(card, name, results))
    return results


def render_benchmark(card: Scorecard, name: str, results: Results) -> str:
    """Draw the page."""
    main, *others = results.tables
    lines = [f"# Benchmark: {escape(name)}", "", CAPTION, "", *draw_table(main), ""]
    for table in others:
        if isinstance(table, TaskTable):
            lines += [f"## {escape(table.title)}", "", *draw_table(table), ""]
    lines += ["## Worst wordings", "", *_worst(card, name), ""]
    for table in others:
        if not isinstance(table, TaskTable):
            lines += [f"## {table.title}", "", *draw_table(table), ""]
    lines += ["## Unparsed answers", "", *_unparsed(card, name), ""]
    lines += ["## Definitions", ""]
    lines += [f"* **{title}.** {text}" for title, text in defined(results)]
    lines += ["", "## Made with", "", *made_with(results), ""]
    return "\n".join(lines)


def _worst(card: Scorecard, name: str) -> Iterator[str]:
    """Name the wording under which a system does worst, by group and task."""
    for system in DETAILED:
        for measure, group in ((measure, group) for measure in ("agreement", "wer") for group in GROUPS):
            for task in tasks_of(card, f"{measure}_worst", group):
                score = card.find(f"{measure}_worst", system, group, task)
                if score is not None and score.value is not None:
                    what = "WER" if measure == "wer" else "agreement"
                    of = "all of them" if task == ALL else task
                    yield (
                        f"* {escape(TITLES[system].format(name=name))}, {GROUPS[group]}, {escape(of)}: "
                        f"{what} {score.value:.1f} under “{escape(score.wording)}”"
                    )


def _unparsed(card: Scorecard, name: str) -> Iterator[str]:
    """Show answers to closed tasks that are wrong because nobody could say what they mean."""
    for shown in card.metadata["unparsed"]:
        system = TITLES[shown["system"]].format(name=name)
        yield (
            f"* {escape(system)}, {escape(shown['task'])}, {escape(shown['id'])}: “{escape(shown['answer'])}” "
            f"(the text LLM: “{escape(shown['reference'])}”) to “{escape(shown['prompt'])}”"
        )
    if not card.metadata["unparsed"]:
        yield NO_UNPARSED
