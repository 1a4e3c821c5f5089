"""The scorecard of one experiment: its scores and all that is needed to read them, as `scores.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import DataError

FILE = "scores.json"
ALL = "all"
"""the group or task of a score that pools all of them"""
DECIMALS = 4
"""enough for any table, and few enough that another machine's last bits do not show"""


@dataclass(frozen=True)
class Score:
    """One number, what it is of, and how sure it is."""

    metric: str
    """`wer`, `agreement`, `accuracy`, `empty`, `loops` or `cut_off`; those of the benchmark are in its definitions"""
    system: str
    group: str
    task: str
    value: float | None
    """None where it cannot be measured; `note` says why"""
    low: float | None
    high: float | None
    n: int
    """answers counted"""
    utterances: int
    """that the answers are about; what the interval resamples"""
    unit: str = "%"
    details: dict[str, float] = field(default_factory=dict)
    """what the number is made of, such as the substitutions"""
    note: str = ""
    wording: str = ""
    """the prompt, of a score of one wording or of the worst one"""


@dataclass(frozen=True)
class WorkedExample:
    """One question and what every system said to it."""

    id: str
    task: str
    group: str
    prompt: str
    transcript: str
    reference: str
    answers: dict[str, str]
    """system -> its answer"""
    heard: dict[str, str]
    """control system -> id of the utterance that it was really given"""


@dataclass(frozen=True)
class Scorecard:
    """All scores of one experiment."""

    scores: tuple[Score, ...]
    normaliser: str
    """what a word error rate disregards"""
    agreement: str
    """definition of the agreement"""
    definitions: dict[str, str]
    """the other measures, the interval and the choice of examples, in words"""
    questions: str
    """fingerprint of the questions answered; only equal ones may be compared"""
    versions: dict[str, str]
    commit: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    examples: tuple[WorkedExample, ...] = ()

    def find(self, metric: str, system: str, group: str, task: str) -> Score | None:
        """Return the score of that name, None where there is none."""
        wanted = metric, system, group, task
        return next((x for x in self.scores if (x.metric, x.system, x.group, x.task) == wanted), None)

    def write(self, path: Path) -> None:
        """Write as JSON, by a temporary name."""
        plain = _rounded(asdict(self))
        for score in plain["scores"]:
            if not score["wording"]:
                del score["wording"]
        write_text(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_scorecard(path: Path) -> Scorecard:
    """Read what `Scorecard.write` wrote.

    Raises:
        DataError: there is no such file, or it is not a scorecard.
    """
    if not path.is_file():
        raise DataError(f"there are no scores at {path}: run `toolkit score` for that experiment first")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        scores = tuple(Score(**score) for score in plain.pop("scores"))
        examples = tuple(WorkedExample(**example) for example in plain.pop("examples"))
        return Scorecard(scores=scores, examples=examples, **plain)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a scorecard of this version: {error}; run `toolkit score` again") from error


def write_text(path: Path, text: str) -> None:
    """Write a file by a temporary name, so that whoever finds it finds it whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _rounded(value: Any) -> Any:
    """Round all numbers of a plain tree; adding 0.0 turns -0.0 into 0.0."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
