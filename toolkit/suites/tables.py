"""The rows of a benchmark's files: JSON lines, and the tables of Hugging Face datasets; audio in them or beside them.

What stands in a file is never trusted: a recording that is named must lie inside the folder that was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError, DataError
from toolkit.suites.item import Sound

LINES, PARQUET, ARROW = ".jsonl", ".parquet", ".arrow"
_AT_ONCE = 16
"""rows of a table with audio in memory at a time"""

Row = dict[str, Any]


def find_tables(folder: Path) -> list[Path]:
    """Find the tables below a folder, all of one kind, by name.

    Raises:
        DataError: there are none, or of several kinds, so that rows would be counted twice.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        # `datasets` keeps results of its own beside the data under this name.
        if path.suffix in (LINES, PARQUET, ARROW) and path.is_file() and not path.name.startswith("cache-"):
            found.setdefault(path.suffix, []).append(path)
    if len(found) > 1:
        raise DataError(f"{folder} holds tables of several kinds ({', '.join(found)}): leave one of them there")
    if not found:
        raise DataError(f"{folder} holds no table ({LINES}, {PARQUET} or {ARROW})")
    return next(iter(found.values()))


def rows_of(path: Path, columns: Seq[str] | None = None) -> Iterator[tuple[str, Row]]:
    """Read a table row by row.

    Args:
        path: JSON lines, Parquet, or Arrow as `datasets` saves it to disk.
        columns: read these alone, where the format can.

    Yields:
        Where the row stands, for error messages, and the row.

    Raises:
        ConfigError: the format needs pyarrow, and it is not installed.
        DataError: the file is not what its name says.
    """
    reader = {LINES: _lines, PARQUET: _parquet, ARROW: _arrow}[path.suffix]
    for number, row in enumerate(reader(path, columns), start=1):
        yield f"{path}:{number}", row


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _lines(path: Path, columns: Seq[str] | None) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}:{number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number} is not a record in braces; every line holds one")
            yield row


def _parquet(path: Path, columns: Seq[str] | None) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise _no_pyarrow(path) from error
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE, columns=None if columns is None else list(columns)):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise DataError(f"cannot read {path}: {error}; download it again") from error


def _arrow(path: Path, columns: Seq[str] | None) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, ipc, memory_map
    except ImportError as error:
        raise _no_pyarrow(path) from error
    try:
        with memory_map(str(path)) as source, ipc.open_stream(source) as stream:
            for batch in stream:
                kept = batch if columns is None else batch.select(list(columns))
                for start in range(0, kept.num_rows, _AT_ONCE):
                    yield from kept.slice(start, _AT_ONCE).to_pylist()
    except ArrowException as error:
        raise DataError(f"cannot read {path}: {error}; save the dataset to disk again") from error


def _no_pyarrow(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} needs pyarrow, which is not installed: pip install 'mtbi-toolkit[suites]', or give the data as "
        "JSON lines with audio files beside them (docs/suites.md)"
    )


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """Return a text that a row must have.

    Raises:
        DataError: it has none.
    """
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: '{key}' must be a text, not {value!r}; it has {', '.join(map(str, row))}")
    return value


def sound_of(value: Any, root: Path, beside: Path, where: str) -> Sound:
    """Return the recording of a row: a path, or a record with `bytes` or `path` as `datasets` writes audio.

    Args:
        value: what the row says.
        root: the folder of the suite.
        beside: the folder that paths are relative to.
        where: of the row.

    Raises:
        DataError: it is neither, or leads out of `root`.
    """
    name, content = (value.get("path"), value.get("bytes")) if isinstance(value, Mapping) else (value, None)
    if content:
        return Sound.of_bytes(f"{name or ''}@{where.rpartition('/')[2]}", bytes(content))
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: no recording: neither a path nor bytes in {value!r}")
    return Sound(name, path=inside(root, beside, name, where))


def inside(root: Path, beside: Path, name: str, where: str) -> Path:
    """Return the file that a row names, which must lie in the folder of the suite.

    Raises:
        DataError: it does not.
    """
    if "\0" in name:
        raise DataError(f"{where}: {name!r} is no file name")
    path = (beside / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DataError(f"{where}: '{name}' leads out of {root}, to {path}: a suite may read only its own folder")
    return path
