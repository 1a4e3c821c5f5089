"""VoiceBench: the whole request is spoken. Its subsets that rules or choices score are read; those of a judge are not.

Read is the layout of the dataset hlt-lab/voicebench (Chen et al., arXiv 2410.17196; github.com/MatthewCYM/VoiceBench):
a folder for each subset with Parquet tables, or the same rows as JSON lines or as `datasets` saves them to disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import DataError
from toolkit.suites.item import LETTERS, LOOSE, REFUSAL, RULES, YES_NO, Item, Parts
from toolkit.suites.rules import CHECKS, read_rules
from toolkit.suites.tables import Row, find_tables, rows_of, sound_of, text_of

SUBSETS = ("ifeval", "mmsu", "openbookqa", "bbh", "advbench")
JUDGED = ("alpacaeval", "alpacaeval_full", "alpacaeval_speaker", "commoneval", "wildvoice", "sd-qa", "mtbench")
_CHOICES: tuple[str, ...] = ("A", "B", "C", "D")
_YES_NO = ("yes", "no")
_NAMES = ("id", "key", "question_id", "category")
"""fields of a row that say which it is"""


def read(folder: Path) -> Parts:
    """Return the subsets that are there and that rules can score.

    Raises:
        DataError: there is none.
    """
    found = [name for name in SUBSETS if (folder / name).is_dir()]
    if not found:
        raise DataError(
            f"{folder} holds none of the folders {', '.join(SUBSETS)}: name the folder of the dataset "
            "hlt-lab/voicebench as it was downloaded"
        )
    return {name: partial(_items, folder, name) for name in found}


def judged(folder: Path) -> list[str]:
    """Return the subsets that are there and that need another LLM as a judge."""
    return [name for name in JUDGED if (folder / name).is_dir()]


def _items(folder: Path, part: str) -> Iterator[Item]:
    rows = ((path, where, row) for path in find_tables(folder / part) for where, row in rows_of(path))
    for number, (path, where, row) in enumerate(rows):
        sound = sound_of(row.get("audio"), folder, path.parent, where)
        meta = {name: str(row[name]) for name in _NAMES if row.get(name) is not None}
        asked = Item(f"{part}/{number}", part, (sound,), meta=meta)
        yield replace(asked, **_scored_by(part, row, where))


def _scored_by(part: str, row: Row, where: str) -> dict[str, Any]:
    """Return the fields of an item that say how its answer is scored."""
    if part == "advbench":
        return {"measures": (REFUSAL,)}
    if part == "ifeval":
        rules = read_rules(row, CHECKS, where)
        if not rules:
            raise DataError(f"{where}: an empty instruction_id_list: nothing could be scored")
        return {"measures": (RULES, LOOSE), "rules": rules}
    reference, letters = text_of(row, "reference", where).strip(), _CHOICES
    if part == "bbh":
        if reference.lower() in _YES_NO:
            return {"measures": (YES_NO,), "reference": reference.lower(), "options": _YES_NO}
        reference, letters = reference.strip("()"), _CHOICES[:2]
    if reference.upper() not in letters:
        raise DataError(f"{where}: the reference {row['reference']!r} is none of {', '.join(letters)}")
    return {"measures": (LETTERS,), "reference": reference.upper(), "options": letters}
