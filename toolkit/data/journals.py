"""Journals: several processes write rows into one folder, and none makes what another makes or has made.

`store.jsonl` holds what is settled, a row a line. Who adds to it writes a journal of its own beside it, `store.1.jsonl`
and so on, and holds a lock on that while it lives. A line of a journal is a batch of rows, or a claim: the keys whose
rows are being made now. It is whole or it is not read, so that an interruption loses one batch at the most; the claim
of a journal that nobody holds means nothing. When all is there, rows are settled in the order in which one process
would have made them.

Locks are those of the file system (`flock`). Machines that share no folder, or one without locks, work on parts.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from toolkit.errors import ConfigError

Row = dict[str, Any]
"""what is kept under `row["key"]`"""


@dataclass(frozen=True)
class Part:
    """One of several parts of the work, each done by itself, such as on machines that share no folder."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str, key: str) -> Part:
        """Read `2/4`, the second of four parts; empty is the whole. `key` is the option's, for the error.

        Raises:
            ConfigError: it is not of that form.
        """
        if not text:
            return cls()
        match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(f"{key} is a part such as 2/4, the second of four, or empty; not '{text}'")
        return cls(int(match[1]), int(match[2]))

    @property
    def whole(self) -> bool:
        """Tell whether this part is all there is."""
        return self.of == 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Part()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path`; wait for whoever holds it."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock `path` if nobody does, and say whether."""
    with path.open("ab") as file:
        yield _take(file, fcntl.LOCK_EX)


class Journal:
    """The file of one writer; made by `Journals.open`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self._file = file

    def claim(self, keys: Seq[str]) -> None:
        """Say which rows are made now; holds until rows are written, another claim is made, or the writer ends."""
        self._append({"claim": list(keys)})

    def write(self, rows: Seq[Row]) -> None:
        """Keep a batch of rows."""
        self._append({"rows": list(rows)})

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        self._file.flush()


class Journals:
    """What is settled in a folder, and the journals beside it.

    Args:
        folder: it need not exist to be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settled = folder / "store.jsonl"
        self._read: dict[Path, int] = {}
        self._keys: dict[Path, set[str]] = {}
        self._claims: dict[Path, frozenset[str]] = {}

    def journals(self) -> list[Path]:
        """Return the journals there are."""
        return sorted(self.folder.glob("store.*.jsonl"))

    def news(self) -> Iterator[tuple[Row, bool]]:
        """Yield the rows that have come since the last call, each with whether it is settled."""
        # Rows move from journals to what is settled: read in this order, none is missed on its way.
        for path in self.journals():
            for line in self._lines(path):
                self._claims[path] = frozenset(line.get("claim", ()))
                for row in line.get("rows", ()):
                    self._keys.setdefault(path, set()).add(row["key"])
                    yield row, False
        for row in self._lines(self.settled):
            yield row, True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let nobody else claim or settle meanwhile."""
        with locked(self.folder / "store.lock"):
            yield

    @contextmanager
    def open(self, part: Part = WHOLE) -> Iterator[Journal]:
        """Begin a journal of one's own; those that others left are never written to again."""
        head = "" if part.whole else f"{part.number}of{part.of}-"
        with self.lock():
            numbers = [re.fullmatch(rf"store\.{head}(\d+)\.jsonl", path.name) for path in self.journals()]
            path = self.folder / f"store.{head}{1 + max((int(n[1]) for n in numbers if n), default=0)}.jsonl"
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        with file:
            yield Journal(path, file)

    def claimed(self, own: Journal) -> set[str]:
        """Return the keys that others are working on, as `news` has read them; to be asked inside `lock`."""
        theirs = (path for path, keys in self._claims.items() if keys and path != own.path and _alive(path))
        return {key for path in theirs for key in self._claims[path]}

    def settle(self, rows: Seq[Row]) -> None:
        """Append rows to what is settled; inside `lock`, after `news`. A last line that was cut off is taken away."""
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        end = self._read.get(self.settled, 0)
        with self.settled.open("r+b" if self.settled.exists() else "wb") as file:
            file.truncate(end)
            file.seek(end)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._read[self.settled] = end + len(content)

    def clear(self, settled: AbstractSet[str]) -> None:
        """Take away the journals that nobody writes to and that hold nothing but `settled`; inside `lock`."""
        for path in self.journals():
            if not _alive(path) and self._keys.get(path, set()) <= settled:
                path.unlink()

    def _lines(self, path: Path) -> list[Row]:
        """Return what has been added to a file; a last line that is cut, or being written, is passed over."""
        start = self._read.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
        except FileNotFoundError:  # not there yet, or settled meanwhile
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._read[path] = start + len(whole)
        # At line feeds only: answers may hold other characters that end lines for `splitlines`.
        return [json.loads(line) for line in whole.decode("utf-8").split("\n")[:-1]]


def _alive(path: Path) -> bool:
    """Tell whether somebody holds the lock on a journal."""
    try:
        with path.open("rb") as file:
            return not _take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _take(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
