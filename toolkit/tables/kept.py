"""Raw answers that stay: what every cell said to the test set, beside the page that is made of nothing else.

answers/{text,other}.jsonl.gz                the text LLM's, the same for all cells
answers/<row>.<seed>/{speech,deaf}.jsonl.gz  the cell's own
answers/<row>.<seed>/made.json               what made them

They are small enough to be committed, and then `toolkit table FOLDER --rescore` makes the page on any machine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.config import Config
from toolkit.data.cuts import replacing
from toolkit.errors import ConfigError, DataError
from toolkit.scoring.scorecard import FILE, read_scorecard, write_text
from toolkit.stages.paths import SPLITS, cuts_path, hypotheses_path
from toolkit.stages.score import SYSTEMS, find_answers
from toolkit.sweep.record import Cost, read_cost, read_record, read_times
from toolkit.tables.cells import TableCell

MADE = "made.json"
ENDING = ".jsonl.gz"
SHARED = ("text", "other", "cascade")
"""systems that do not depend on what was trained: kept once, if all cells found the same"""


@dataclass(frozen=True)
class Made:
    """What made a cell's answers."""

    row: str
    seed: int
    settings: list[str]
    """overrides, without those that say where things lie"""
    trained: bool
    questions: str
    data: str
    """digest of the cuts and of the tasks"""
    seconds: float
    """from its start to its end, over all attempts"""
    times: dict[str, float]
    """seconds by stage"""
    cost: Cost | None
    processors: int | None
    machine: str
    versions: dict[str, str]
    commit: str | None


def keep(cell: TableCell, root: Path) -> None:
    """Copy the answers of a cell that is done to `root`; what is there of the same cell is replaced.

    Raises:
        DataError: it has no answers or no scores.
    """
    folder, record = root / cell.name, read_record(cell.folder)
    if record is None:
        raise DataError(f"{cell.folder} was never run")
    card = read_scorecard(cell.folder / FILE)
    files = find_answers(hypotheses_path(cell.config, cell.config.decode.split, "speech").parent)
    for old in folder.glob(f"*{ENDING}"):
        old.unlink()
    for system, path in files.items():
        data, shared = path.read_bytes(), root / f"{system}{ENDING}"
        if system in SHARED and not shared.exists():
            _write(shared, data)
        if system not in SHARED or gzip.decompress(shared.read_bytes()) != data:
            _write(folder / f"{system}{ENDING}", data)
    made = Made(
        cell.row, cell.seed, cell.settings, cell.trained, card.questions, data_digest(cell.config), record.seconds,
        read_times(cell.folder), read_cost(cell.folder), os.cpu_count(), platform.machine(), card.versions, card.commit,
    )  # fmt: skip
    # The last: without it, nothing is kept.
    write_text(folder / MADE, json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n")


def read_made(folder: Path) -> Made | None:
    """Read what made the answers in a folder; None where none are kept.

    Raises:
        DataError: the file is not of this version.
    """
    path = folder / MADE
    if not path.is_file():
        return None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Made(**{**plain, "cost": Cost(**plain["cost"]) if plain["cost"] else None})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not say what made the answers beside it: {error}") from error


def kept_files(folder: Path) -> dict[str, Path]:
    """Return the kept answers of a cell, its own and those that it shares: system -> file."""
    places = {system: (folder / f"{system}{ENDING}", folder.parent / f"{system}{ENDING}") for system in SYSTEMS}
    own = {system: own for system, (own, _) in places.items() if own.is_file()}
    shared = {system: common for system, (_, common) in places.items() if system in SHARED and common.is_file()}
    if "speech" not in own:
        raise DataError(f"{folder} holds no answers to the speech (speech{ENDING})")
    return {system: path for system, path in {**shared, **own}.items() if path.is_file()}


def kept_seeds(row: Path) -> dict[int, Path]:
    """Return the folders `<row>.<seed>` by seed."""
    ending = re.compile(re.escape(row.name) + r"\.(\d+)")
    named = ((ending.fullmatch(path.name), path) for path in row.parent.glob(f"{row.name}.*") if path.is_dir())
    return dict(sorted((int(found[1]), path) for found, path in named if found))


def check_kept(cell: TableCell, root: Path) -> bool:
    """Tell whether a cell's answers are kept.

    Raises:
        ConfigError: they are those of other settings.
    """
    made = read_made(root / cell.name)
    if made is None:
        return False
    if made.settings != cell.settings:
        changed = " ".join(sorted({*made.settings} ^ {*cell.settings})) or "their order"
        raise ConfigError(
            f"{root / cell.name} holds answers of other settings ({changed}). Remove it, and {cell.folder} if it is "
            "there, to run the cell again; or give another --out and --exp."
        )
    return True


def data_digest(config: Config) -> str:
    """Digest what is learnt from and asked about: utterances, transcripts, word times, tasks; not where files lie."""
    digest = hashlib.sha256()
    for split in SPLITS:
        path = cuts_path(config, split)
        if not path.exists():
            continue
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for cut in map(json.loads, file):
                said = cut["supervisions"][0]
                digest.update(
                    json.dumps([split, cut["id"], cut["duration"], said["text"], said.get("alignment")]).encode()
                )
    tasks = Path(config.imitate.tasks)
    for path in sorted(tasks.rglob("*.yaml")):
        digest.update(path.relative_to(tasks).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _write(path: Path, data: bytes) -> None:
    """Write gzipped; the same answers give the same bytes."""
    with replacing(path) as temporary, temporary.open("wb") as raw:  # noqa: SIM117
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as file:
            file.write(data)
