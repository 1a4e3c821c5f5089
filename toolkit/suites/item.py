"""One question of a suite: what is heard, what is asked beside it, and how its answer is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

RULES, LOOSE, LETTERS, YES_NO, REFUSAL, EXACT, LABEL, WORDS, JUDGE = (
    "rules", "loose", "letters", "yes_no", "refusal", "exact", "label", "words", "judge",
)  # fmt: skip
"""how an answer is scored; `JUDGE` is by another LLM, and such an item is counted and not asked"""


@dataclass(frozen=True)
class Sound:
    """A recording of an item: a file, or the bytes of one that stood in a table."""

    name: str
    """what the file or row calls it; recordings of one name are one recording"""
    path: Path | None = None
    content: bytes = field(default=b"", repr=False)
    digest: str = ""
    """of the bytes, and there when they are not"""

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> Sound:
        """Make a recording of the bytes of a file."""
        return cls(name, content=content, digest=hashlib.sha256(content).hexdigest()[:16])

    @property
    def missing(self) -> bool:
        """Whether it is a file that is not there."""
        return self.path is not None and not self.path.is_file()

    @property
    def mark(self) -> str:
        """What tells this recording from another of the same name: a digest of its bytes, or its size as a file."""
        size = "" if self.path is None or self.missing else str(self.path.stat().st_size)
        return f"{self.name}:{self.digest or size}"


@dataclass(frozen=True)
class Rule:
    """A verifiable instruction of IFEval: its id and its arguments."""

    id: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    """`part/number of the row`, unique in a suite"""
    part: str
    """the subset, file or task of the suite that it is in: a row of the table"""
    sounds: tuple[Sound, ...]
    measures: tuple[str, ...] = ()
    """how the answer is scored"""
    instruction: str = ""
    """text beside the speech; empty where the speech is all that is said"""
    reference: str = ""
    options: tuple[str, ...] = ()
    """the letters or labels that an answer may name"""
    rules: tuple[Rule, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    """such as the row's own id"""

    @property
    def unit(self) -> str:
        """What intervals resample: items about the same recordings are drawn together."""
        return " ".join(sound.name for sound in self.sounds)

    def without_sound(self) -> Item:
        """Return the item without the bytes of its recordings."""
        return replace(self, sounds=tuple(replace(sound, content=b"") for sound in self.sounds))


Parts = dict[str, Callable[[], Iterator[Item]]]
"""Part of a suite -> its items, read anew and one by one at every call."""
