"""Worked examples, chosen by a hash and not by anyone's liking."""

from __future__ import annotations

import hashlib

from toolkit.scoring.answers import CONTROLS, GROUPS, Paired
from toolkit.scoring.scorecard import WorkedExample

RULE = (
    "Not picked by quality: questions are put in the order of the SHA-256 of their utterance "
    "id (then of prompt and task), and the groups take turns to give their next question about an utterance "
    "not yet shown."
)


def choose(paired: Paired, number: int) -> tuple[WorkedExample, ...]:
    """Choose examples by `RULE`; the choice does not depend on any answer.

    An utterance is shown again only when all of a group's utterances have been.
    """
    turns: list[list[int]] = []
    for group in GROUPS:
        rows = [row for row, question in enumerate(paired.questions) if question.group == group]
        turns.append(sorted(rows, key=lambda row: _order(paired, row)))
    chosen: list[int] = []
    shown: set[str] = set()
    while len(chosen) < number and any(turns):
        for rows in turns:
            if not rows:
                continue
            fresh = next((row for row in rows if paired.questions[row].id not in shown), rows[0])
            rows.remove(fresh)
            shown.add(paired.questions[fresh].id)
            chosen.append(fresh)
    return tuple(_example(paired, row) for row in chosen[:number])


def _order(paired: Paired, row: int) -> tuple[str, str]:
    question = paired.questions[row]
    return _hash(question.id), _hash(question.id + "\n" + question.prompt + "\n" + question.task)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example(paired: Paired, row: int) -> WorkedExample:
    question = paired.questions[row]
    answers = {system: rows[row] for system, rows in paired.answers.items()}
    return WorkedExample(
        id=question.id, task=question.task, group=question.group, prompt=question.prompt,
        transcript=question.transcript, reference=question.reference,
        answers={system: answer.hypothesis for system, answer in answers.items()},
        heard={system: answers[system].heard for system in CONTROLS if system in answers},
    )  # fmt: skip
