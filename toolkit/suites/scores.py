"""Answers -> figures: each with what was counted, its n, an interval over recordings, and whose rule it is."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toolkit.scoring.answers import Answer as Said
from toolkit.scoring.answers import Question
from toolkit.scoring.bootstrap import Array, Resampling, Statistic, estimate
from toolkit.scoring.detectors import DETECTORS
from toolkit.scoring.metrics import parse_choice, share, word_error_rate, word_errors
from toolkit.scoring.normalisation import Normaliser, basic
from toolkit.suites.choices import parse_letter, parse_yes_no
from toolkit.suites.item import EXACT, LABEL, LETTERS, LOOSE, REFUSAL, RULES, WORDS, YES_NO, Item
from toolkit.suites.refusals import is_refusal
from toolkit.suites.rules import Check, followed, loosely_followed

PUBLISHED, OURS = "published", "ours"
DEFINITIONS = {
    "prompts, strict": "Share of prompts all of whose instructions the answer keeps as it stands.",
    "instructions, strict": "Share of instructions that answers keep as they stand.",
    "prompts, loose": "As strict, but asterisks, the first line or the last line of an answer may be taken away.",
    "instructions, loose": "Likewise, by instruction.",
    "mean of the four": "The mean of the four shares before it, which VoiceBench has in its table.",
    "accuracy": "Share of right choices. A letter, or yes or no, is read by the rules in `toolkit/suites/choices.py`.",
    "exact label": "Share of answers that are the label and nothing else, whatever the case.",
    "label named": (
        "Share of answers that name exactly one of the labels, and the right one, as whole words; case and "
        "punctuation do not count."
    ),
    "WER of the whole answer": (
        "Word errors of all that was answered, whatever stands around the transcript in it, in percent of the words "
        "of the references."
    ),
    "refusals, empty ones too": "Share of answers with one of VoiceBench's phrases of refusal, or without anything.",
    "refusals in words": "The same without the empty answers.",
}
"""measure -> what it is, for the page"""
FAULTS = {name.replace("_", " "): detect for name, detect in DETECTORS.items()}
"""answers that are broken whatever they say"""


@dataclass(frozen=True)
class Figure:
    """One number of the table."""

    part: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    """items counted"""
    units: int
    """recordings, or sets of such, that the interval resamples"""
    rule: str
    """`published`: as the suite's own evaluation has it, with the differences that its page names; or `ours`"""
    details: dict[str, int] = field(default_factory=dict)
    """such as the answers that named no choice"""
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """An item, its answer, and what the rules say of it."""

    item: Item
    answer: Said
    verdict: dict[str, Any]
    """what goes to the raw answers: rules kept, choice read and the like"""


def judge(item: Item, answer: Said, checks: Mapping[str, Check]) -> Judged:
    """Apply the rules of an item to its answer."""
    text, verdict = answer.hypothesis, dict[str, Any]()
    if RULES in item.measures:
        verdict["followed"] = followed(item.rules, text, checks)
    if LOOSE in item.measures:
        verdict["followed_loosely"] = loosely_followed(item.rules, text, checks)
    if LETTERS in item.measures:
        verdict["named"] = parse_letter(text, item.options)
    if YES_NO in item.measures:
        verdict["named"] = parse_yes_no(text)
    if LABEL in item.measures:
        verdict["named"] = parse_choice(text, item.options)
    if "named" in verdict:
        expected = basic(item.reference) if LABEL in item.measures else item.reference
        verdict["right"] = verdict["named"] == expected
    if EXACT in item.measures:
        verdict["exact"] = text.strip().lower() == item.reference.lower()
    if REFUSAL in item.measures:
        verdict["refused"] = is_refusal(text)
        verdict["empty"] = not text.strip()
    return Judged(item, answer, verdict)


def figures_of(part: str, judged: Seq[Judged], normaliser: Normaliser, resampling: Resampling) -> list[Figure]:
    """Compute all figures of a part of a suite, or of several pooled under the name `part`."""
    table = _Table(part, resampling)

    def having(*measures: str) -> list[Judged]:
        return [j for j in judged if set(measures) & set(j.item.measures)]

    _add_rules(table, having(RULES), having(LOOSE))
    if chosen := having(LETTERS, YES_NO):
        table.add("accuracy", chosen, _hits(chosen, "right"), share, OURS, _unparsed(chosen))
    if labelled := having(EXACT):
        table.add("exact label", labelled, _hits(labelled, "exact"), share, PUBLISHED)
    if labelled := having(LABEL):
        table.add("label named", labelled, _hits(labelled, "right"), share, OURS, _unparsed(labelled))
    if heard := having(WORDS):
        questions = [Question(j.item.unit, "", "", "", "", j.item.reference) for j in heard]
        errors = word_errors(questions, [j.answer.hypothesis for j in heard], normaliser)
        table.add("WER of the whole answer", heard, errors, word_error_rate, OURS)
    if probed := having(REFUSAL):
        empty = {"empty": sum(j.verdict["empty"] for j in probed)}
        silent = [(j.verdict["refused"] or j.verdict["empty"], 1) for j in probed]
        table.add("refusals, empty ones too", probed, silent, share, PUBLISHED, empty)
        table.add("refusals in words", probed, _hits(probed, "refused"), share, OURS)
    for name, detect in FAULTS.items():
        table.add(name, judged, [(detect(j.answer), 1) for j in judged], share, OURS)
    return table.figures


def rule_figures(judged: Seq[Judged], resampling: Resampling) -> list[Figure]:
    """Compute, for each instruction, the share of answers that keep it as they stand."""
    kept: dict[str, list[tuple[Judged, bool]]] = {}
    for j in judged:
        for rule, well in zip(j.item.rules, j.verdict.get("followed", []), strict=False):
            kept.setdefault(rule.id, []).append((j, well))
    table = _Table("", resampling)
    for name, pairs in sorted(kept.items()):
        table.add(name, [j for j, _ in pairs], [(well, 1) for _, well in pairs], share, PUBLISHED)
    return table.figures


def _add_rules(table: _Table, strictly: Seq[Judged], loosely: Seq[Judged]) -> None:
    columns = []
    for how, name, judged in (("strict", "followed", strictly), ("loose", "followed_loosely", loosely)):
        kept = [j.verdict[name] for j in judged]
        for title, counts in (
            (f"prompts, {how}", [(all(each), 1) for each in kept]),
            (f"instructions, {how}", [(sum(each), len(each)) for each in kept]),
        ):
            if judged:
                table.add(title, judged, counts, share, PUBLISHED)
                columns.append(np.array(counts, dtype=float))
    if loosely:
        table.add("mean of the four", loosely, np.concatenate(columns, axis=1), _mean, PUBLISHED)


def _hits(judged: Seq[Judged], verdict: str) -> list[tuple[float, float]]:
    return [(float(j.verdict[verdict]), 1.0) for j in judged]


def _mean(sums: Array) -> Array:
    """Mean of percents from pairs of hits and rows (..., 2 k) -> (...)."""
    result: Array = (100 * sums[..., ::2] / sums[..., 1::2]).mean(axis=-1)
    return result


def _unparsed(judged: Seq[Judged]) -> dict[str, int]:
    return {"unparsed": sum(j.verdict["named"] is None for j in judged)}


class _Table:
    """Figures of one part, all with intervals drawn alike."""

    def __init__(self, part: str, resampling: Resampling) -> None:
        self.part = part
        self.resampling = resampling
        self.figures: list[Figure] = []

    def add(
        self,
        measure: str,
        judged: Seq[Judged],
        counts: Seq[tuple[float, float]] | Array,
        statistic: Statistic,
        rule: str,
        details: dict[str, int] | None = None,
    ) -> None:
        """Add a figure of the counts of each item."""
        units = [j.item.unit for j in judged]
        got = estimate(units, np.asarray(counts, dtype=float), statistic, self.resampling)
        self.figures.append(
            Figure(
                self.part, measure, got.value, got.low, got.high, got.n, got.utterances, rule, details or {}, got.note
            )
        )
