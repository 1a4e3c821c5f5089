"""Reading answer files and pairing them: all systems must have answered the very same questions.

A question is one prompt about one utterance; a system is a way of answering it. Rows are paired by key and
never by position, so that a lost or doubled line stops the scoring instead of shifting it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from toolkit.errors import DataError, check_names

SYSTEMS = {
    "speech": "the model on speech",
    "deaf": "the model on another utterance's speech",
    "text": "the text LLM on the true transcript (topline)",
    "other": "the text LLM on another utterance's transcript (zero of the agreement)",
    "cascade": "the text LLM on the recogniser's transcript",
}
CONTROLS = ("deaf", "other")
GROUPS = {
    "seen_wording": "seen wordings",
    "held_out_wording": "held-out wordings",
    "held_out_task": "held-out tasks",
}
SHOWN = 3
"""how many offending keys an error message names"""

Key = tuple[str, str, str]
"""id of the utterance, task, prompt"""


@dataclass(frozen=True)
class Question:
    """One prompt about one utterance, and what counts as the right answer to it."""

    id: str
    task: str
    prompt: str
    group: str
    transcript: str
    reference: str
    """the text LLM's own answer to the true transcript; for transcription the true transcript"""
    choices: tuple[str, ...] = ()
    """the allowed answers of a closed task"""
    rule: str = ""
    """what the answer must keep, such as `one_word`; empty is nothing"""

    @property
    def key(self) -> Key:
        """What makes a question the same question in every file."""
        return self.id, self.task, self.prompt


@dataclass(frozen=True)
class Answer:
    """What a system said."""

    hypothesis: str
    complete: bool = True
    """False where the answer was cut at the length limit"""
    heard: str = ""
    """id of the utterance that was really given; empty where the file does not say"""


@dataclass(frozen=True)
class Paired:
    """The questions in a fixed order and each system's answers in that same order."""

    questions: tuple[Question, ...]
    answers: dict[str, tuple[Answer, ...]]

    @property
    def fingerprint(self) -> str:
        """Short name of the set of questions, equal for experiments that may stand in one table."""
        keys = json.dumps([question.key for question in self.questions])
        return hashlib.sha256(keys.encode()).hexdigest()[:12]


def read_answers(path: Path) -> dict[Key, tuple[Question, Answer]]:
    """Read one system's answers, JSON lines (`*.jsonl`, or `*.jsonl.gz`), by key.

    Raises:
        DataError: the file is missing or empty, a line is not a record of the right fields, or a key
            comes twice.
    """
    if not path.is_file():
        raise DataError(f"there are no answers at {path}")
    rows: dict[Key, tuple[Question, Answer]] = {}
    doubled: list[Key] = []
    # Not splitlines(): answers may hold U+2028 and the like, which JSON leaves as they are.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number} is not JSON: {error}") from error
        question, answer = _parse(row, f"{path}:{number}")
        if question.key in rows:
            doubled.append(question.key)
        rows[question.key] = question, answer
    if doubled:
        raise DataError(f"{path} answers {_some(doubled)} more than once")
    if not rows:
        raise DataError(f"{path} is empty")
    return rows


def pair(files: Mapping[str, Path]) -> Paired:
    """Read the systems' files and pair their rows by (id, task, prompt).

    Args:
        files: system -> its answers; systems that were not run are simply absent.

    Raises:
        DataError: systems answered different questions, or disagree about a question's reference, group,
            transcript or choices; or a control was given the very utterance it must not hear.
    """
    if not files:
        raise DataError("there is no system to score")
    check_names("system", files, SYSTEMS)
    tables = {system: read_answers(path) for system, path in files.items()}
    first = next(iter(tables))
    for system, table in tables.items():
        check_same(first, tables[first], system, table)
        _check_heard(system, table, files[system])
    keys = sorted(tables[first])
    return Paired(
        questions=tuple(tables[first][key][0] for key in keys),
        answers={system: tuple(table[key][1] for key in keys) for system, table in tables.items()},
    )


def check_same(
    name: str,
    table: Mapping[Key, tuple[Question, Answer]],
    other_name: str,
    other: Mapping[Key, tuple[Question, Answer]],
) -> None:
    """Hold two systems' questions together.

    Raises:
        DataError: one answers what the other does not, or they disagree about a question.
    """
    for having, lacking, rows in (
        (name, other_name, table.keys() - other.keys()),
        (other_name, name, other.keys() - table.keys()),
    ):
        if rows:
            raise DataError(f"`{lacking}` lacks {_some(rows)}, which `{having}` answers: decode both alike")
    for field in fields(Question):
        differing = [key for key in table if getattr(table[key][0], field.name) != getattr(other[key][0], field.name)]
        if differing:
            raise DataError(
                f"`{name}` and `{other_name}` have a different {field.name} for {_some(differing)}: "
                "their files come from different runs of the imitate stage"
            )


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return data.decode("utf-8")


def _check_heard(system: str, table: Mapping[Key, tuple[Question, Answer]], path: Path) -> None:
    control = system in CONTROLS
    wrong = [key for key, (_, answer) in table.items() if answer.heard and (answer.heard == key[0]) == control]
    if wrong:
        what = "its own utterance, so it controls nothing," if control else "another utterance"
        raise DataError(f"`{system}` ({path}) was given {what} for {_some(wrong)}")


def _some(keys: Iterable[Key]) -> str:
    """Name the first few keys and how many there are."""
    listed = sorted(keys)
    names = ", ".join(f"({id_}, {task}, {prompt!r})" for id_, task, prompt in listed[:SHOWN])
    return f"{len(listed)} question(s), e.g. {names}"


def _parse(row: Any, where: str) -> tuple[Question, Answer]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a record")

    def text(name: str) -> str:
        value = row.get(name)
        if not isinstance(value, str):
            raise DataError(f"{where}: '{name}' must be a string, not {value!r}")
        return value

    choices, complete = row.get("choices") or [], row.get("complete", True)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{where}: 'choices' must be a list of strings")
    if not isinstance(complete, bool):
        raise DataError(f"{where}: 'complete' must be true or false")
    if text("group") not in GROUPS:
        raise DataError(f"{where}: there is no group '{row['group']}'; there are {', '.join(GROUPS)}")
    rule = text("rule") if row.get("rule") is not None else ""
    question = Question(
        id=text("id"), task=text("task"), prompt=text("prompt"), group=text("group"),
        transcript=text("transcript"), reference=text("reference"), choices=tuple(choices), rule=rule,
    )  # fmt: skip
    heard = text("heard") if row.get("heard") is not None else ""
    return question, Answer(text("hypothesis"), complete, heard)
