"""What the benchmark keeps beside answers: the behaviour gap to the text-prompted LLM, and answers in text alone.

Both are raw, a line of JSON a row, so that they are scored again without the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from toolkit.errors import DataError
from toolkit.scoring import metrics
from toolkit.scoring.answers import GROUPS, SYSTEMS
from toolkit.scoring.bootstrap import Array, Resampling, estimate
from toolkit.scoring.pools import as_columns, named
from toolkit.scoring.scorecard import ALL, Score, write_text

GAPS, KNOWLEDGE = "gap.jsonl", "knowledge.jsonl"
GAP = (
    "Kullback-Leibler divergence of the next-token distributions, KL(text-prompted || as prompted), over the whole "
    "vocabulary at temperature 1, in nats per token. Both are the same LLM and both are given, token by token, the "
    "text LLM's own answer to the true transcript under the same prompt (with the end of the turn, where it ended by "
    "itself); the mean is over all these tokens. 0 is the text LLM itself, the deaf control's is what not listening "
    "costs."
)
KNOWN = (
    "Answers to questions in text alone, true transcripts in place of speech: percent that the trained model's LLM, "
    "with all that was trained of it switched on, answers just as the untouched LLM loaded from its own files, to "
    "the last letter; both are asked in the same batches. With a frozen decoder anything but 100 is a fault."
)
NO_TOKENS = "no answer of the text LLM has a token"


@dataclass(frozen=True)
class Gap:
    """The divergence of one system along the text LLM's answer to one question."""

    system: str
    id: str
    task: str
    group: str
    prompt: str
    kl: float
    """nats, summed over the tokens"""
    tokens: int


@dataclass(frozen=True)
class Known:
    """One question in text alone, and both answers to it."""

    id: str
    task: str
    group: str
    prompt: str
    untouched: str
    trained: str
    same: bool
    """in every letter, and in whether the answer ended by itself"""


Kept = TypeVar("Kept", Gap, Known)


def write_kept(path: Path, rows: Seq[Kept]) -> None:
    """Write rows as JSON lines through a temporary name."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_kept(path: Path, kind: type[Kept]) -> list[Kept]:
    """Read rows of a kind; no file has none.

    Raises:
        DataError: a line is not such a row.
    """
    if not path.is_file():
        return []
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
    rows = []
    for number, line in ((number, line) for number, line in lines if line):
        try:
            rows.append(kind(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}:{number} is no row of the benchmark: {error}") from error
    return rows


def gap_scores(gaps: Seq[Gap], resampling: Resampling) -> Iterator[Score]:
    """Yield `kl` by system: of all, of each group and of each of its tasks."""
    for system in SYSTEMS:
        own = [gap for gap in gaps if gap.system == system]
        if own:
            yield _gap(own, ALL, ALL, resampling)
        for group in GROUPS:
            inside = [gap for gap in own if gap.group == group]
            if inside:
                yield _gap(inside, group, ALL, resampling)
            for task in sorted({gap.task for gap in inside}):
                yield _gap([gap for gap in inside if gap.task == task], group, task, resampling)


def knowledge_scores(rows: Seq[Known], resampling: Resampling) -> Iterator[Score]:
    """Yield `knowledge`, where anything was asked."""
    if rows:
        hits = np.array([float(row.same) for row in rows])
        found = estimate([row.id for row in rows], as_columns(hits), metrics.share, resampling)
        yield named("knowledge", "speech", ALL, ALL, found, {"same": float(hits.sum())})


def _gap(gaps: Seq[Gap], group: str, task: str, resampling: Resampling) -> Score:
    columns = np.array([[gap.kl, gap.tokens] for gap in gaps], dtype=np.float64)
    found = estimate([gap.id for gap in gaps], columns, _per_token, resampling)
    details = {"tokens": float(columns[:, 1].sum())}
    return named("kl", gaps[0].system, group, task, found, details, NO_TOKENS, unit="nats per token")


def _per_token(sums: Array) -> Array:
    """Return nats per token from sums (..., 2) of nats and tokens -> (...)."""
    nats, tokens = sums[..., 0], sums[..., 1]
    return np.divide(nats, tokens, out=np.full_like(nats, np.nan), where=tokens > 0)
