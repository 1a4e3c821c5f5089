"""Reading corpora: each format is a function from a folder and a split to utterances, audio not yet opened.

Manifests are data from elsewhere: a command in a `wav.scp` is never run, and a relative path that leads out
of the corpus is refused.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.data.alignment import to_cut_clock
from toolkit.errors import DataError, unknown_name
from toolkit.types import Word

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """What a corpus says of one utterance; nothing here has been checked against the audio."""

    id: str
    audio: Path | None
    """absolute path; None where the manifest names no file"""
    transcript: str
    speaker: str = ""
    split: str = ""
    """the corpus' own name of the split"""
    recording: str = ""
    """id of the recording where several utterances share one; else empty"""
    start: float = 0.0
    """seconds into the file"""
    end: float | None = None
    """seconds into the file; None is its end"""
    duration: float | None = None
    """seconds that the corpus claims, to be checked; None where it claims nothing"""
    words: tuple[Word, ...] = ()
    """seconds from the start of the utterance"""
    custom: dict[str, Any] = field(default_factory=dict)


def read_corpus(form: str, folder: str | Path, split: str) -> Iterator[Utterance]:
    """Yield the utterances of a split, in the corpus' order.

    Args:
        form: `librispeech`, `kaldi` or `jsonl`.
        folder: of the corpus.
        split: the corpus' own name of it; `a+b` joins two.

    Raises:
        UnknownNameError: no such format.
        DataError: no such folder or split, or a manifest that is broken or leads outside.
    """
    manifest_files(form, folder, split)
    for part in split.split("+"):
        yield from FORMATS[form](Path(os.path.abspath(folder)), part)


def manifest_files(form: str, folder: str | Path, split: str) -> list[Path]:
    """Return the files that `read_corpus` reads before any audio, so that a change in them can be noticed.

    Raises:
        UnknownNameError: no such format.
        DataError: no such folder or split.
    """
    if form not in FORMATS:
        raise unknown_name("corpus format", form, list(FORMATS))
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise DataError(f"the corpus folder {root} does not exist: check prepare.corpus")
    needed, others, marks = _MANIFESTS[form]
    files: list[Path] = []
    for part in split.split("+"):
        place = root if form == "jsonl" else root / part
        if not any(place.glob(needed)):
            there = sorted({str(path.parent.relative_to(root)) for path in root.glob(marks)})
            raise DataError(f"{place} has no {needed}; such files are in: {', '.join(there[:20]) or 'no folder'}")
        files += [path for pattern in (needed, *others) for path in sorted(place.glob(pattern))]
    return files


def read_librispeech(root: Path, part: str) -> Iterator[Utterance]:
    """Read a part (`train-clean-100`) or a speaker (`train-clean-100/19`) of LibriSpeech's layout.

    lhotse's own recipe reads it, with the word times of *.alignment.txt where there are some. The recipe logs
    and drops utterances without audio, and stops at the first broken one; so the list of utterances comes
    from the transcripts, and what is missing or broken is counted and named when the audio is checked.
    """
    from lhotse.recipes import prepare_librispeech

    folder = root / part
    times: dict[str, tuple[Word, ...]] = {}
    try:
        whole = part.split("/")[0]
        manifests = prepare_librispeech(root, dataset_parts=[whole])[whole]
        for supervision in manifests["supervisions"]:
            times[supervision.id] = to_cut_clock((supervision.alignment or {}).get("word", ()), 0.0)
    except Exception as error:  # of whatever kind a broken file makes the recipe raise
        log.warning("lhotse's recipe for %s stopped: %s: %s", folder, type(error).__name__, error)
    for path in sorted(folder.rglob("*.trans.txt")):
        for name, text in _table(path):
            yield Utterance(
                id=name, audio=path.parent / f"{name}.flac", transcript=text, speaker=name.split("-")[0],
                split=part, words=times.get(name, ()),
            )  # fmt: skip


def read_kaldi(root: Path, part: str) -> Iterator[Utterance]:
    """Read a Kaldi folder: wav.scp and text, utt2spk and segments if they exist; other files are ignored.

    Relative paths in wav.scp are looked for from the folder, its parent and the working directory.
    """
    folder = root / part
    scp = _unique(folder / "wav.scp")
    recordings = {name: _kaldi_audio(folder, value, f"{folder / 'wav.scp'}, '{name}'") for name, value in scp.items()}
    texts = _unique(folder / "text")
    speakers = _unique(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    if not (folder / "segments").is_file():
        for name in [*recordings, *(name for name in texts if name not in recordings)]:
            yield Utterance(name, recordings.get(name), texts.get(name, ""), speakers.get(name, name), part)
        return
    for name, value in _table(folder / "segments"):
        try:
            recording, start, end, *_ = value.split()
            times = float(start), float(end)
        except ValueError as error:
            raise DataError(
                f"{folder / 'segments'}: expected 'utterance recording start end', found '{name} {value}'"
            ) from error
        if not 0 <= times[0] < times[1]:
            raise DataError(f"{folder / 'segments'}: utterance '{name}' runs from {start} to {end} s")
        yield Utterance(
            name, recordings.get(recording), texts.get(name, ""), speakers.get(name, name), part,
            recording=recording, start=times[0], end=times[1],
        )  # fmt: skip


def read_jsonl(root: Path, part: str) -> Iterator[Utterance]:
    """Read `utterances.jsonl`, a JSON object a line, as egs/mini has it.

    Keys: `id`, `split`, `text`; `voice` (the speaker); `duration` in seconds, checked; `words` as
    [word, start, end] in seconds; `kind`; `audio`, a path inside the corpus (if it is not given,
    `audio/<voice>/<id>.opus`).
    """
    path = root / "utterances.jsonl"
    splits = set()
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            splits.add(row["split"])
            if row["split"] != part:
                continue
            yield _jsonl_utterance(root, row, where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: {type(error).__name__}: {error}") from error
    if part not in splits:
        raise DataError(f"{path} has no split '{part}', only: {', '.join(sorted(map(str, splits))) or 'none'}")


def _jsonl_utterance(root: Path, row: dict[str, Any], where: str) -> Utterance:
    name, voice = str(row["id"]), str(row.get("voice", ""))
    return Utterance(
        id=name,
        audio=_inside(root, row.get("audio", f"audio/{voice}/{name}.opus"), where),
        transcript=str(row["text"]),
        speaker=voice,
        split=row["split"],
        duration=None if row.get("duration") is None else float(row["duration"]),
        words=tuple(Word(str(text), float(start), float(end)) for text, start, end in row.get("words") or ()),
        custom={"kind": row["kind"]} if row.get("kind") else {},
    )


FORMATS: dict[str, Callable[[Path, str], Iterator[Utterance]]] = {
    "librispeech": read_librispeech,
    "kaldi": read_kaldi,
    "jsonl": read_jsonl,
}
_MANIFESTS = {
    "librispeech": ("**/*.trans.txt", ("**/*.alignment.txt",), "*/*"),
    "kaldi": ("wav.scp", ("text", "utt2spk", "segments"), "*/wav.scp"),
    "jsonl": ("utterances.jsonl", (), "*/utterances.jsonl"),
}
"""format -> the files it cannot do without, those it also reads, and what shows where else they may be"""


def _kaldi_audio(folder: Path, value: str, where: str) -> Path:
    """Find the file that a wav.scp entry means."""
    if value.endswith("|") or value.startswith("|") or value == "-":
        raise DataError(
            f"{where}: '{value}' is a command, and commands found in data are never run. Run them yourself, "
            "each into a file (Kaldi's wav-copy does it), and write the paths of those files into wav.scp"
        )
    if os.path.isabs(value):  # Kaldi's practice: the user wrote where the audio is
        return Path(value)
    bases = (folder, folder.parent, Path.cwd())
    paths = [Path(os.path.normpath(base / value)) for base in bases]
    inside = [path for path in paths if any(path.is_relative_to(base) for base in bases)]
    if not inside:
        raise DataError(f"{where}: the path '{value}' leads out of the corpus; write an absolute path")
    return next((path for path in inside if path.exists()), inside[0])


def _inside(root: Path, value: str, where: str) -> Path:
    """Join a path from a manifest to the corpus folder, and refuse one that leads out of it."""
    if os.path.isabs(value) or ".." in Path(value).parts:
        raise DataError(f"{where}: the path '{value}' leads out of the corpus folder {root}")
    return root / value


def _table(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the key and the rest of each line of a Kaldi-style table; the rest may be empty."""
    for line in _read(path).split("\n"):
        if line.strip():
            key, _, rest = line.strip().replace("\t", " ").partition(" ")
            yield key, rest.strip()


def _unique(path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for key, rest in _table(path):
        if key in table:
            raise DataError(f"{path}: '{key}' occurs more than once")
        table[key] = rest
    return table


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
