"""Hypotheses: one answer a line, with all that scoring needs to know about it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.data.answers import Answer
from toolkit.data.labels import known_target
from toolkit.data.tasks import Request, Task
from toolkit.errors import DataError
from toolkit.types import Example


@dataclass(frozen=True)
class Row:
    """One answer of one system."""

    id: str
    task: str
    group: str
    prompt: str
    hypothesis: str
    reference: str
    """the text LLM's answer to the true transcript; for transcription the transcript itself, or the task's label"""
    transcript: str
    """of several utterances, one after the other with ` | ` between"""
    complete: bool
    heard: str
    """the utterance that was really given: another one for the deaf control"""
    choices: tuple[str, ...]
    others: tuple[str, ...] = ()
    """the further utterances that the prompt is about"""
    rule: str = ""
    """what the answer must keep, such as `one_word`"""

    @classmethod
    def of(cls, request: Request, example: Example, task: Task, truth: Answer, answer: Answer, heard: str) -> Row:
        """Pair an answer with what it should have been."""
        said = " | ".join(utterance.transcript for utterance in example.utterances)
        known = known_target(task, request, example)
        reference = truth.text if known is None else known
        return cls(
            request.cut, request.task, request.group, request.prompt, answer.text, reference,
            said, answer.complete, heard, task.choices, request.others, task.rule,
        )  # fmt: skip

    def line(self) -> str:
        """Return the row as a line of JSON, without `others` and `rule` where there are none."""
        row = {key: value for key, value in asdict(self).items() if key not in ("others", "rule") or value}
        return json.dumps(row, ensure_ascii=False) + "\n"


def write_rows(path: Path, rows: Seq[Row]) -> None:
    """Write rows as JSON lines through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(row.line() for row in rows), encoding="utf-8")
    os.replace(temporary, path)


def read_rows(path: Path) -> list[Row]:
    """Read rows.

    Raises:
        DataError: the file is not there.
    """
    if not path.exists():
        raise DataError(f"no answers in {path}: run the stage that writes them (imitate, decode) first")
    # Split at line feeds only: answers may hold other characters that end lines for `splitlines`.
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return [Row(**{**row, "choices": tuple(row["choices"]), "others": tuple(row.get("others", ()))}) for row in rows]


def other_of(ids: Seq[str]) -> dict[str, str]:
    """Pair every utterance with another one, by a fixed shuffle: what the deaf control hears.

    One utterance alone has no other: the pairing is then empty, and the controls that need it are not run.
    """
    order = sorted(ids, key=lambda i: hashlib.sha256(i.encode()).hexdigest())
    return dict(zip(order, [*order[1:], order[0]], strict=True)) if len(order) > 1 else {}
