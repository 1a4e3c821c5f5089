"""Speech-IFEval: instructions in text about speech, with constraints on the answer that rules can check.

Read is what github.com/kehanlu/Speech-IFEval describes (Lu, Kuan and Lee, Interspeech 2025): `eval_data/*.jsonl`,
with recordings in `audios/`. Chain-of-thought items, which have no rule, are judged by an LLM there: not run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from toolkit.errors import DataError
from toolkit.suites.item import JUDGE, LABEL, RULES, WORDS, Item, Parts
from toolkit.suites.rules import SPEECH_CHECKS, read_rules
from toolkit.suites.tables import LINES, Row, rows_of, sound_of, text_of

MANIFESTS, AUDIO = "eval_data", "audios"
_BASELINE = "-woprompt"
"""file names with this hold the questions without the constraint: there is no rule to keep"""
_MEASURES = {"accuracy": LABEL, "wer": WORDS, "cot": JUDGE, "open": ""}
"""a row's `metric` -> how the answer is scored beside the rules"""


def read(folder: Path) -> Parts:
    """Return the parts of the suite: a file each.

    Raises:
        DataError: the folder holds no manifests.
    """
    found = sorted((folder / MANIFESTS).glob(f"*{LINES}"))
    if not found:
        raise DataError(
            f"there is no {folder / MANIFESTS}/*{LINES}: name the folder `data` of Speech-IFEval, which holds "
            f"{MANIFESTS}/ and {AUDIO}/"
        )
    return {path.stem: partial(_items, folder, path) for path in found}


def _items(folder: Path, path: Path) -> Iterator[Item]:
    rows = list(rows_of(path))
    labels: dict[str, set[str]] = {}
    for where, row in rows:
        if row.get("metric") == "accuracy":
            labels.setdefault(text_of(row, "dataset", where), set()).add(text_of(row, "label", where))
    for number, (where, row) in enumerate(rows):
        yield _item(folder, path.stem, number, where, row, labels)


def _item(folder: Path, part: str, number: int, where: str, row: Row, labels: dict[str, set[str]]) -> Item:
    instruction, metric = text_of(row, "instruction", where), text_of(row, "metric", where)
    if metric not in _MEASURES:
        raise DataError(f"{where}: there is no metric '{metric}'; there are {', '.join(_MEASURES)}")
    rules = () if part.endswith(_BASELINE) or metric == "cot" else read_rules(row, SPEECH_CHECKS, where)
    measures = [name for name in (RULES if rules else "", _MEASURES[metric]) if name]
    if not measures:
        raise DataError(f"{where}: metric '{metric}' without an instruction_id_list: nothing could be scored")
    reference = text_of(row, "label", where) if metric in ("accuracy", "wer") else ""
    options: tuple[str, ...] = ()
    if metric == "accuracy":
        quoted = re.findall(r'"([^"\n]+)"', instruction)
        options = tuple(dict.fromkeys(quoted)) if reference in quoted else tuple(sorted(labels[row["dataset"]]))
    return Item(
        id=f"{part}/{number}",
        part=part,
        sounds=(sound_of(text_of(row, "audio_filepath", where), folder, folder / AUDIO, where),),
        measures=tuple(measures),
        instruction=instruction,
        reference=reference,
        options=options,
        rules=rules,
        meta={"id": str(row.get("id", "")), "dataset": str(row.get("dataset", ""))},
    )
