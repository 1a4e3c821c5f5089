"""The teacher kept: its k likeliest next tokens at every supervised position, so that distillation runs none.

What is kept belongs to a row of the text view, token by token: whatever the prompt, the target and the markers are,
the row that training makes finds what was said at its own positions, or nothing. Files hold rows of about one length
under a name that tells which, so that several processes can make them, and an interrupted run goes on with whole ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from toolkit.data.journals import locked_if_free
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError, DataError
from toolkit.types import Example, Sequence, TextSegment, TokenPiece, TopK

SHARD = 256
"""rows in a file"""
POLL = 0.1
"""seconds between two looks at the files that others are making"""


class Teacher(ABC):
    """What an engine may be able to do beside answering: say how likely it finds the tokens of given answers."""

    @abstractmethod
    def teach(self, rows: Seq[Sequence], top_k: int) -> list[TopK]:
        """Return the next-token distribution at the supervised positions of each row of text, on the CPU."""


def teacher_of(engine: object) -> Teacher:
    """Return the engine as a teacher.

    Raises:
        ConfigError: it cannot say what it finds likely.
    """
    if not isinstance(engine, Teacher):
        raise ConfigError(
            f"imitate.top_k: {type(engine).__name__} gives answers and no log-probabilities: draw the answers with an "
            "engine that does, or say imitate.top_k=0, and the teacher is run in training"
        )
    return engine


def text_view(tokenizer: ChatTokenizer, example: Example) -> Sequence:
    """Make the row that the teacher reads: every utterance as text, the same targets."""
    return tokenizer.sequence(example, *((TextSegment(said.transcript),) for said in example.utterances))


def key_of(row: Sequence) -> str:
    """Return the digest of a row of text: its tokens, and which are supervised.

    Raises:
        DataError: there is speech in it.
    """
    content = []
    for piece in row:
        if not isinstance(piece, TokenPiece):
            raise DataError("a teacher that is kept has read text alone, and this row has speech in it")
        content.append([list(piece.token_ids), piece.supervised])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


class TeacherStore:
    """The teacher's distributions on one split, in `<folder>/top<k>/*.safetensors`.

    Args:
        folder: that of the answers, which is named by the fingerprint of the LLM, precision and system prompt included.
        top_k: tokens kept at each position.
    """

    def __init__(self, folder: Path, top_k: int) -> None:
        self.folder = folder / f"top{top_k}"
        self.top_k = top_k
        self._where: dict[str, Any] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._load(path)

    def __contains__(self, row: Sequence) -> bool:
        return key_of(row) in self._where

    def __getitem__(self, row: Sequence) -> TopK:
        """Return what the teacher says at the supervised positions of a row.

        Raises:
            DataError: it is not kept.
        """
        key = key_of(row)
        if key not in self._where:
            raise DataError(f"no stored teacher of a row in {self.folder}: run the imitate stage with this recipe")
        shard = self._where[key]
        return TopK(shard.get_tensor(f"{key}.token_ids").long(), shard.get_tensor(f"{key}.log_probs"))

    def missing(self, rows: Seq[Sequence]) -> dict[str, Sequence]:
        """Return the rows that are not kept, each once, by their keys: one prompt together, long ones first."""
        keyed = {key_of(row): row for row in rows}
        unknown = [(key, row) for key, row in keyed.items() if key not in self._where]
        return dict(sorted(unknown, key=lambda item: (_opening(item[1]), -_length(item[1]), item[0])))

    def fill(self, rows: Seq[Sequence], teacher: Teacher, batch_size: int) -> Iterator[int]:
        """Ask the teacher for what is missing; yields the number of rows of each file, whoever made it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        unknown = self.missing(rows)
        keys = list(unknown)
        # Files hold equally many rows, so what is left after an interruption is cut where it would have been.
        todo = [keys[start : start + SHARD] for start in range(0, len(keys), SHARD)]
        while todo:
            waiting = []
            for chunk in todo:
                path = self.folder / f"{hashlib.sha256(''.join(chunk).encode()).hexdigest()[:16]}.safetensors"
                with locked_if_free(path.with_suffix(".lock")) as mine:
                    if mine and not path.exists():
                        self._save({key: unknown[key] for key in chunk}, path, teacher, batch_size)
                if not mine:
                    waiting.append(chunk)
                    continue
                path.with_suffix(".lock").unlink(missing_ok=True)
                self._load(path)
                yield len(chunk)
            if waiting == todo:
                time.sleep(POLL)
            todo = waiting

    def _load(self, path: Path) -> None:
        shard = safe_open(path, framework="pt")
        for name in shard.keys():  # noqa: SIM118 -- a shard is no mapping
            self._where[name.partition(".")[0]] = shard

    def _save(self, rows: Mapping[str, Sequence], path: Path, teacher: Teacher, batch_size: int) -> None:
        keys, shard = list(rows), {}
        for start in range(0, len(keys), batch_size):
            batch = keys[start : start + batch_size]
            for key, said in zip(batch, teacher.teach([rows[key] for key in batch], self.top_k), strict=True):
                # Copies: a file takes no two tensors that share their memory.
                shard[f"{key}.token_ids"] = said.token_ids.to(torch.int32, copy=True)
                shard[f"{key}.log_probs"] = said.log_probs.to(torch.float32, copy=True)
        temporary = path.with_suffix(".tmp")
        try:
            save_file(shard, temporary)
            os.replace(temporary, path)
        except SafetensorError as error:  # such as a full disk
            raise DataError(f"cannot write {temporary}: {error}; the files that are there are intact") from error
        finally:
            temporary.unlink(missing_ok=True)


def _opening(row: Sequence) -> tuple[int, ...]:
    first = row[0]
    return first.token_ids if isinstance(first, TokenPiece) else ()


def _length(row: Sequence) -> int:
    return sum(len(piece.token_ids) for piece in row if isinstance(piece, TokenPiece))
