"""`BENCH.md`: the benchmark of one experiment on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
WRONG = "Wrong, since they name no choice or several. Ten of each system at most, not picked by quality."
LEFT_OUT = "Left out of the accuracy of all, since the text LLM's own answer names no choice or several:"
NO_UNPARSED = "Every answer to a closed task names exactly one of its choices, or there is no closed task."
BROKEN = "Ten of each system at most, not picked by quality."


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
    if broken := card.metadata["broken"]:
        lines += ["## Broken constraints", "", BROKEN, "", *(_answer(shown, name) for shown in broken), ""]
    lines += ["## Definitions", ""]
    lines += [f"* **{title}.** {text}" for title, text in defined(results)]
    lines += ["", "## Made with", "", *made_with(results), ""]
    return "\n".join(lines)


def _worst(card: Scorecard, name: str) -> Iterator[str]:
    """Name the wording under which a system does worst, by group and task."""
    for system in DETAILED:
        for measure, group in ((measure, group) for measure in ("agreement", "wer") for group in GROUPS):
            for task in tasks_of(card, f"{measure}_worst", group, families=False):
                score = card.find(f"{measure}_worst", system, group, task)
                if score is not None and score.value is not None:
                    what = "WER" if measure == "wer" else "agreement"
                    of = "all of them" if task == ALL else task
                    yield (
                        f"* {escape(TITLES[system].format(name=name))}, {GROUPS[group]}, {escape(of)}: "
                        f"{what} {score.value:.1f} under “{escape(score.wording)}”"
                    )


def _unparsed(card: Scorecard, name: str) -> Iterator[str]:
    """Show answers to closed tasks of which nobody could say what they mean: what is wrong, then what is left out."""
    wrong, left_out = ([_answer(shown, name) for shown in card.metadata[key]] for key in ("unparsed", "left_out"))
    if wrong:
        yield from (WRONG, "", *wrong)
    if wrong and left_out:
        yield ""
    if left_out:
        yield from (LEFT_OUT, "", *left_out)
    if not wrong and not left_out:
        yield NO_UNPARSED


def _answer(shown: Mapping[str, Any], name: str) -> str:
    """Draw an answer with what the text LLM said, where that is another."""
    system, cut = TITLES[shown["system"]].format(name=name), "" if shown["complete"] else ", cut off,"
    other = shown["reference"] != shown["answer"]
    reference = f" (the text LLM: “{escape(shown['reference'])}”)" if other else ""
    return (
        f"* {escape(system)}, {escape(shown['task'])}, {escape(shown['id'])}: “{escape(shown['answer'])}”{cut}"
        f"{reference} to “{escape(shown['prompt'])}”"
    )
