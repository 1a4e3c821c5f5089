"""The benchmark's scorecard: what `score` measures, and how far that holds beyond the prompts of training.

Over wordings and tasks (`wordings`), constraints kept (`toolkit.rules`), the behaviour gap and the knowledge kept
(`behaviour`), and more ways to answer badly (`detectors`). Everything is worked out from raw answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import rules
from toolkit.errors import DataError
from toolkit.scoring import metrics
from toolkit.scoring.answers import Answer, Paired, Question, pair
from toolkit.scoring.behaviour import GAP, KNOWN, Gap, Known, gap_scores, knowledge_scores
from toolkit.scoring.bootstrap import Array, Resampling, estimate
from toolkit.scoring.compute import NOT_DEPENDENT, ZERO, score
from toolkit.scoring.detectors import DEFINITION as FAULTS
from toolkit.scoring.detectors import MORE_FAULTS, OF_QUESTION
from toolkit.scoring.normalisation import Normaliser, normaliser
from toolkit.scoring.pools import as_columns, ids_of, named, pools, rows_where
from toolkit.scoring.scorecard import ALL, Score, Scorecard
from toolkit.scoring.wordings import DEFINITION as WORDINGS
from toolkit.scoring.wordings import Measure, each_wording, kept, over_wordings

FAMILY = "family "
"""before the name of a family, where the name of a task stands: its tasks are pooled"""
SHOWN = 10
"""wrong answers of each system"""
CUT = "Cut off: so many of the answers that break it were stopped at the length limit, which may be why."
ROOM = 5.0
"""points that an answer must be able to rise above the zero; of less a score would be noise, multiplied"""
AGREEMENT = Measure("agreement", metrics.agreement, higher_is_better=True, unmeasurable=NOT_DEPENDENT, least=ROOM)
WORD_ERRORS = Measure("wer", metrics.word_error_rate, higher_is_better=False, unmeasurable="nothing was said")


def benchmark(
    files: Mapping[str, Path],
    families: Mapping[str, str],
    *,
    gaps: Seq[Gap] = (),
    knowledge: Seq[Known] = (),
    normaliser_name: str = "english",
    resampling: Resampling = Resampling(),  # noqa: B008 (frozen)
    examples: int = 3,
    metadata: Mapping[str, Any] | None = None,
) -> Scorecard:
    """Score the benchmark of one experiment.

    Args:
        files: system -> its answers, as for `score`.
        families: task -> its family.
        gaps: divergences by system and question.
        knowledge: questions in text alone with both answers.
        normaliser_name: for word error rates.
        resampling: how the intervals are drawn.
        examples: number of worked examples to keep.
        metadata: plain values to keep with the scores.

    Raises:
        DataError: the files do not answer the same questions, a divergence is of another question, or a task has no
            family.
        ConfigError: a rule of an answer is none that there is.
    """
    card = score(files, normaliser_name=normaliser_name, resampling=resampling, examples=examples, metadata=metadata)
    paired = pair(files)
    _check(paired, families, gaps)
    more = [
        *_agreements(paired, families, resampling),
        *_word_errors(paired, normaliser(normaliser_name), resampling),
        *_constraints(paired, resampling),
        *_faults(paired, resampling),
        *gap_scores(gaps, resampling),
        *knowledge_scores(knowledge, resampling),
    ]
    definitions = {
        **card.definitions, "faults": f"{FAULTS} {MORE_FAULTS}", "wordings": WORDINGS,
        "constraints": f"{rules.DEFINITION} {CUT}", "gap": GAP, "knowledge": KNOWN,
    }  # fmt: skip
    shown = [system for system in paired.answers if system != ZERO]
    about = {
        **card.metadata, "families": dict(families), "rules": _rules(paired),
        "unparsed": _some(paired, _is_unparsed, shown), "broken": _some(paired, _is_broken, shown),
        "left_out": _some(paired, _is_left_out, {"text"} & set(shown)),
    }  # fmt: skip
    return replace(card, scores=(*card.scores, *more), definitions=definitions, metadata=about)


def _check(paired: Paired, families: Mapping[str, str], gaps: Seq[Gap]) -> None:
    """Refuse what belongs to another asking."""
    without = {question.task for question in paired.questions} - families.keys()
    if without:
        raise DataError(f"no family is known of the tasks {', '.join(sorted(without))}: bench again, not only rescore")
    keys = {question.key for question in paired.questions}
    if any((gap.id, gap.task, gap.prompt) not in keys for gap in gaps):
        raise DataError("the divergences are of other questions than the answers: bench again, not only rescore")


def _agreements(paired: Paired, families: Mapping[str, str], resampling: Resampling) -> Iterator[Score]:
    """Yield the agreement over wordings by group, task and family, and under each wording."""
    rows = rows_where(paired, lambda question: question.task != metrics.TRANSCRIPTION)
    questions = [paired.questions[row] for row in rows]
    if ZERO not in paired.answers or not questions:
        return  # `score` says so where the agreement stands
    parts: list[tuple[str, str, Seq[int]]] = list(pools(questions))
    for group, _, pool in [part for part in parts if part[1] == ALL]:
        for family in sorted({families[questions[row].task] for row in pool}):
            own = [row for row in pool if families[questions[row].task] == family]
            parts.append((group, FAMILY + family, own))

    def similar(system: str) -> Array:
        return metrics.similarities(questions, [paired.answers[system][row].hypothesis for row in rows])

    zero = similar(ZERO)
    for system in paired.answers:
        columns = metrics.above_zero(similar(system), zero)
        yield from over_wordings(questions, columns, AGREEMENT, parts, system, resampling)
        yield kept(questions, columns, AGREEMENT, system, resampling)
        yield from each_wording(questions, columns, AGREEMENT, system, resampling)


def _word_errors(paired: Paired, chosen: Normaliser, resampling: Resampling) -> Iterator[Score]:
    """Yield the word error rate over wordings and under each."""
    rows = rows_where(paired, lambda question: question.task == metrics.TRANSCRIPTION)
    questions = [paired.questions[row] for row in rows]
    parts = [part for part in pools(questions) if part[1] != ALL]
    for system, answers in paired.answers.items():
        if system != ZERO and questions:
            counts = metrics.word_errors(questions, [answers[row].hypothesis for row in rows], chosen)
            yield from over_wordings(questions, counts, WORD_ERRORS, parts, system, resampling)
            yield from each_wording(questions, counts, WORD_ERRORS, system, resampling)


def _constraints(paired: Paired, resampling: Resampling) -> Iterator[Score]:
    """Yield `compliance`: of all tasks with a rule, of each group of them and of each task."""
    rows = rows_where(paired, lambda question: bool(question.rule))
    questions = [paired.questions[row] for row in rows]
    if not rows:
        return
    for system, answers in paired.answers.items():
        given = [(question, answers[row]) for row, question in zip(rows, questions, strict=True)]
        obeyed = np.array([float(not _is_broken(*both)) for both in given])
        cut = np.array([float(_is_broken(*both) and not both[1].complete) for both in given])
        for group, task, pool in ((ALL, ALL, list(range(len(rows)))), *pools(questions)):
            found = estimate(ids_of(questions, pool), as_columns(obeyed[pool]), metrics.share, resampling)
            details = {"count": float(obeyed[pool].sum()), "cut_off": float(cut[pool].sum())}
            yield named("compliance", system, group, task, found, details)


def _faults(paired: Paired, resampling: Resampling) -> Iterator[Score]:
    ids = [question.id for question in paired.questions]
    for system, answers in paired.answers.items():
        for name, detect in OF_QUESTION.items():
            hits = np.array([float(detect(*both)) for both in zip(paired.questions, answers, strict=True)])
            found = estimate(ids, as_columns(hits), metrics.share, resampling)
            yield named(name, system, ALL, ALL, found, {"count": float(hits.sum())})


def _rules(paired: Paired) -> dict[str, str]:
    return {question.task: question.rule for question in paired.questions if question.rule}


def _named_none(question: Question) -> bool:
    """Say whether the text LLM's own answer to a closed task is unparsed, so that nobody's answer is judged."""
    return metrics.parse_choice(question.reference, question.choices) is None


def _is_closed(question: Question) -> bool:
    return bool(question.choices) and question.task != metrics.TRANSCRIPTION


def _is_unparsed(question: Question, answer: Answer) -> bool:
    """Say whether an answer counts as wrong since it names no choice, or several."""
    judged = _is_closed(question) and not _named_none(question)
    return judged and metrics.parse_choice(answer.hypothesis, question.choices) is None


def _is_left_out(question: Question, answer: Answer) -> bool:
    return _is_closed(question) and _named_none(question)


def _is_broken(question: Question, answer: Answer) -> bool:
    """Say whether an answer breaks the rule of its task."""
    return bool(question.rule) and not rules.holds(question.rule, answer.hypothesis)


def _some(
    paired: Paired, wanted: Callable[[Question, Answer], bool], systems: Iterable[str]
) -> list[dict[str, str | bool]]:
    """Return some answers of each system that are such: by a hash, not by anyone's liking."""
    rows = range(len(paired.questions))
    order = sorted(rows, key=lambda row: hashlib.sha256("\n".join(paired.questions[row].key).encode()).hexdigest())
    shown: list[dict[str, str | bool]] = []
    for system in systems:
        both = ((paired.questions[row], paired.answers[system][row]) for row in order)
        for question, answer in islice((each for each in both if wanted(*each)), SHOWN):
            shown.append(
                {"system": system, "id": question.id, "task": question.task, "prompt": question.prompt,
                 "answer": answer.hypothesis, "complete": answer.complete, "reference": question.reference}
            )  # fmt: skip
    return shown
