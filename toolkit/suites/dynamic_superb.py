"""Dynamic-SUPERB, phase 1: classification of speech by an instruction in text; the label is to be named.

Read are the two layouts of the benchmark (Huang et al., arXiv 2309.09510): a folder for each task with
`test/metadata.json` and its audio, as the baselines of github.com/dynamic-superb/multimodal-llama read it, and the
tables of the datasets DynamicSuperb/* on the hub. Phase 2 is scored by an LLM, and is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from toolkit.errors import DataError
from toolkit.suites.item import EXACT, LABEL, Item, Parts, Sound
from toolkit.suites.tables import Row, find_tables, read_json, rows_of, sound_of, text_of

METADATA, SPLIT = "metadata.json", "test"
_AUDIO = ("audio", "audio1", "audio2", "audio3", "audio4")
"""columns of a table that hold recordings; the first is called one way or the other"""


def read(folder: Path) -> Parts:
    """Return the tasks: a folder each.

    Raises:
        DataError: there is none, or a task has no test split.
    """
    tasks = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not tasks:
        raise DataError(f"{folder} holds no folder of a task, such as TASK/{SPLIT}/{METADATA} or TASK/*.parquet")
    return {task.name: partial(_items, folder, task) for task in tasks}


def _items(folder: Path, task: Path) -> Iterator[Item]:
    described = task / SPLIT / METADATA
    if described.is_file():
        yield from _described(folder, task.name, described)
    else:
        yield from _tabulated(folder, task)


def _described(folder: Path, part: str, path: Path) -> Iterator[Item]:
    rows = read_json(path)
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise DataError(f"{path} must be a record of file name -> record")
    labels = _labels(rows.values())
    for number, (name, row) in enumerate(rows.items()):
        where = f"{path} '{name}'"
        # The second recording of a pair lies beside the first, whatever the row calls it.
        file = PurePosixPath(name)
        pair = [str(file.with_name(f"{file.stem}_pair{file.suffix}"))] if row.get("file2") else []
        sounds = tuple(sound_of(each, folder, path.parent, where) for each in (name, *pair))
        yield _item(part, number, sounds, row, labels, where)


def _tabulated(folder: Path, task: Path) -> Iterator[Item]:
    tables = [
        path for path in find_tables(task) if any(piece.startswith(SPLIT) for piece in path.relative_to(task).parts)
    ]
    if not tables:
        raise DataError(f"{task} has no {SPLIT} split: neither {SPLIT}/{METADATA} nor a table named {SPLIT}*")
    labels = _labels(row for path in tables for _, row in rows_of(path, ["label"]))
    rows = ((path, where, row) for path in tables for where, row in rows_of(path))
    for number, (path, where, row) in enumerate(rows):
        given = [row[name] for name in _AUDIO if row.get(name) is not None]
        if not given:
            raise DataError(f"{where}: none of {', '.join(_AUDIO)} in {', '.join(row)}")
        sounds = tuple(sound_of(each, folder, path.parent, where) for each in given)
        yield _item(task.name, number, sounds, row, labels, where)


def _labels(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the labels of a task: what an answer may name."""
    return tuple(sorted({str(row["label"]).strip() for row in rows if row.get("label") is not None}))


def _item(part: str, number: int, sounds: tuple[Sound, ...], row: Row, labels: tuple[str, ...], where: str) -> Item:
    if row.get("label") is None:
        raise DataError(f"{where}: there is no label; it has {', '.join(map(str, row))}")
    # Some tasks compare the speech with a text, which the instruction does not hold.
    beside = [text.strip() for text in (row.get("text"),) if isinstance(text, str)]
    return Item(
        id=f"{part}/{number}",
        part=part,
        sounds=sounds,
        measures=(EXACT, LABEL),
        instruction="\n".join([text_of(row, "instruction", where).strip(), *filter(None, beside)]),
        reference=str(row["label"]).strip(),
        options=labels,
        meta={"file": str(row["file"])} if row.get("file") else {},
    )
