"""From the systems' answer files to a scorecard: which rows make which number.

Transcription rows give word error rates, all other rows agreement, rows with choices accuracy as well, and
all rows the fault rates. Rows are pooled per group of prompts, and per task within it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.scoring import metrics
from toolkit.scoring.answers import Paired, pair
from toolkit.scoring.bootstrap import Array, Resampling, Statistic, estimate
from toolkit.scoring.detectors import DEFINITION as FAULTS
from toolkit.scoring.detectors import DETECTORS
from toolkit.scoring.examples import RULE, choose
from toolkit.scoring.normalisation import Normaliser, normaliser
from toolkit.scoring.pools import as_columns, ids_of, named, pools, rows_where
from toolkit.scoring.provenance import commit, versions
from toolkit.scoring.scorecard import ALL, Score, Scorecard

ZERO = "other"
"""the system whose similarity is the zero of the agreement"""
NO_ZERO = f"there are no answers of `{ZERO}`, which make the zero of the scale"
NOT_DEPENDENT = "the text LLM gives the same answers to another utterance's transcript: b = 100"
NO_CHOICE = "no answer of the text LLM names a choice"


@dataclass(frozen=True)
class Measured:
    """What one score is made of, row by row, before any interval or comparison."""

    metric: str
    system: str
    group: str
    task: str
    ids: tuple[str, ...]
    """(N,) the utterance of each row"""
    columns: Array
    """(N, K) what is summed"""
    statistic: Statistic
    details: dict[str, float] = field(default_factory=dict)
    unmeasurable: str = ""
    """why there is no value, should there be none"""

    def score(self, resampling: Resampling) -> Score:
        """Return the score with its interval."""
        found = estimate(self.ids, self.columns, self.statistic, resampling)
        return named(self.metric, self.system, self.group, self.task, found, self.details, self.unmeasurable)


def score(
    files: Mapping[str, Path],
    *,
    normaliser_name: str = "english",
    resampling: Resampling = Resampling(),  # noqa: B008 (frozen)
    examples: int = 12,
    metadata: Mapping[str, Any] | None = None,
) -> Scorecard:
    """Score one experiment.

    Args:
        files: system (`speech`, `deaf`, `text`, `other`, `cascade`) -> its answers; absent systems have no
            scores.
        normaliser_name: for word error rates.
        resampling: how the intervals are drawn.
        examples: number of worked examples to keep.
        metadata: plain values to keep with the scores: seed, recipe, names of the parts.

    Raises:
        DataError: the files do not answer the same questions, or a true transcript is empty.
    """
    paired, chosen = pair(files), normaliser(normaliser_name)
    scores = [measured.score(resampling) for measured in measure(paired, chosen)]
    interval = (
        f"95 %, percentile bootstrap, {resampling.resamples} resamples (seed {resampling.seed}) of "
        "utterances with all their answers, the whole score computed anew in each. They cover the choice of "
        "utterances, not that of training seeds, and shrink to a point for a rate of 0 or 100."
    )
    return Scorecard(
        scores=tuple(scores),
        normaliser=chosen.description,
        agreement=metrics.agreement_definition(),
        definitions={
            "wer": metrics.WORD_ERRORS, "accuracy": metrics.ACCURACY, "faults": FAULTS,
            "interval": interval, "examples": RULE,
        },
        questions=paired.fingerprint,
        versions=versions(),
        commit=commit(),
        metadata=dict(metadata or {}),
        examples=choose(paired, examples),
    )  # fmt: skip


def measure(paired: Paired, chosen: Normaliser) -> Iterator[Measured]:
    """Count all that is scored, for every system, group and task.

    Raises:
        DataError: a true transcript is empty.
    """
    yield from _word_error_rates(paired, chosen)
    yield from _agreements(paired)
    yield from _accuracies(paired)
    yield from _faults(paired)


def _word_error_rates(paired: Paired, chosen: Normaliser) -> Iterator[Measured]:
    rows = rows_where(paired, lambda question: question.task == metrics.TRANSCRIPTION)
    questions = [paired.questions[row] for row in rows]
    for system, answers in paired.answers.items():
        if system == ZERO:
            continue  # another utterance's true transcript: its errors say nothing about any system
        counts = metrics.word_errors(questions, [answers[row].hypothesis for row in rows], chosen)
        for group, task, pool in pools(questions):
            if task == ALL:
                continue  # there is one such task
            insertions, deletions, substitutions, words = map(int, counts[pool].sum(axis=0))
            yield Measured(
                "wer", system, group, task, ids_of(questions, pool), counts[pool], metrics.word_error_rate,
                {"insertions": insertions, "deletions": deletions, "substitutions": substitutions, "words": words},
            )  # fmt: skip


def _agreements(paired: Paired) -> Iterator[Measured]:
    rows = rows_where(paired, lambda question: question.task != metrics.TRANSCRIPTION)
    questions = [paired.questions[row] for row in rows]

    def similar(system: str) -> Array:
        return metrics.similarities(questions, [paired.answers[system][row].hypothesis for row in rows])

    zero = similar(ZERO) if ZERO in paired.answers else None
    for system in paired.answers:
        values = similar(system)
        for group, task, pool in pools(questions):
            details = {"similarity": float(values[pool].mean())}
            columns, why = np.zeros((len(pool), 2)), NO_ZERO
            if zero is not None:
                columns, why = metrics.above_zero(values[pool], zero[pool]), NOT_DEPENDENT
                details["similarity_zero"] = float(zero[pool].mean())
            ids = ids_of(questions, pool)
            yield Measured("agreement", system, group, task, ids, columns, metrics.agreement, details, why)


def _accuracies(paired: Paired) -> Iterator[Measured]:
    rows = rows_where(paired, lambda question: question.task != metrics.TRANSCRIPTION and bool(question.choices))
    questions = [paired.questions[row] for row in rows]
    right = [metrics.parse_choice(question.reference, question.choices) for question in questions]
    for system, answers in paired.answers.items():
        given = [
            metrics.parse_choice(answers[row].hypothesis, question.choices)
            for row, question in zip(rows, questions, strict=True)
        ]
        for group, task, pool in pools(questions):
            counted = [row for row in pool if right[row] is not None]
            hits = np.array([float(given[row] == right[row]) for row in counted])
            details = {
                "unparsed": float(sum(given[row] is None for row in counted)),
                "left_out": float(len(pool) - len(counted)),
            }
            ids = ids_of(questions, counted)
            yield Measured("accuracy", system, group, task, ids, as_columns(hits), metrics.share, details, NO_CHOICE)


def _faults(paired: Paired) -> Iterator[Measured]:
    ids = tuple(question.id for question in paired.questions)
    for system, answers in paired.answers.items():
        for name, detect in DETECTORS.items():
            hits = np.array([float(detect(answer)) for answer in answers])
            details = {"count": float(hits.sum())}
            yield Measured(name, system, ALL, ALL, ids, as_columns(hits), metrics.share, details)
