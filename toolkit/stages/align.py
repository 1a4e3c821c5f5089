"""Align: cuts -> cuts with word times.

They come from the corpus, a CTM file, TextGrids, pocketsphinx, an adapter's CTC or Whisper's cross-attention.

An utterance whose words cannot be placed keeps no times: it stays plain speech, counted with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial as partial_of
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from toolkit.config import Config, require
from toolkit.data import forced_alignment
from toolkit.data.alignment import check_words, read_ctm, read_textgrid, with_words, words_of
from toolkit.data.cuts import read_cuts, replacing, write_cuts
from toolkit.data.fingerprint import fingerprint
from toolkit.data.forced_alignment import Found, Piece, align_piece
from toolkit.errors import DataError, unknown_name
from toolkit.stages.attention_times import WhisperTimes
from toolkit.stages.ctc_times import CTCTimes
from toolkit.stages.paths import SPLITS, cuts_path
from toolkit.stages.progress import bar, say
from toolkit.types import Word

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

SUMMARY = "align.json"
PARTIAL = "align.partial.jsonl"


@dataclass
class Counts:
    """What became of a split; `<split>/align.json` holds the same."""

    aligned: int = 0
    """utterances with usable word times"""
    plain: dict[str, int] = field(default_factory=dict)
    """reason -> utterances that stay plain speech"""


Source = Callable[[list[Any]], Iterator[Found]]
"""Cuts -> what is found for each, in any order."""


def run(config: Config) -> dict[str, Counts]:
    """Give word times to the cuts that have none, neither from the corpus nor by this source.

    Returns:
        what became of each split.

    Raises:
        UnknownNameError: no such `align.source`.
        ConfigError: the source needs `align.path`, or there is no checkpoint or Whisper that could align.
        DataError: nothing is prepared, or the file of word times is broken or is of another corpus.
    """
    options = config.align
    source, contents = _source(config)
    # Times of a model are replaced by those of a better one.
    name = f"{options.source} {contents[:8]}" if options.source in ("ctc", "whisper") else options.source
    settings = {"source": name, "contents": contents}
    paths = {split: cuts_path(config, split) for split in SPLITS}
    counts = {split: _align(path, source, settings) for split, path in paths.items() if path.exists()}
    if not counts:
        raise DataError(f"nothing to align in {config.data_dir}: run the prepare stage first")
    if options.source in ("ctm", "given", "textgrid") and not any(each.aligned for each in counts.values()):
        why = {split: each.plain for split, each in counts.items()}
        raise DataError(f"align.source={options.source} {options.path} gives no utterance word times: {why}")
    return counts


def _align(path: Path, source: Source, settings: dict[str, str]) -> Counts:
    """Align one split; what an interrupted run found is not looked for again."""
    split, summary, partial = path.parent.name, path.with_name(SUMMARY), path.with_name(PARTIAL)
    state = fingerprint({**settings, "cuts": hashlib.sha256(path.read_bytes()).hexdigest()})
    if summary.is_file() and (content := json.loads(summary.read_text()))["state"] == state:
        say(f"align: {split} has been aligned by {settings['source']} already; kept")
        return Counts(**content["counts"])
    cuts = read_cuts(path)
    plain: Counter[str] = Counter()
    todo = [cut for cut in cuts if not _has_words(cut, settings["source"])]
    known = _read_partial(partial, state)
    with replacing(summary) as temporary:
        before = sum(cut.id in known for cut in todo)
        with bar(f"align {split}", len(todo), before) as progress, partial.open("a", encoding="utf-8") as file:
            for found in source([cut for cut in todo if cut.id not in known]):
                known[found.id] = found
                file.write(json.dumps(asdict(found), ensure_ascii=False) + "\n")
                file.flush()
                progress.advance()
        by = settings["source"]
        cuts = [_with_found(cut, known[cut.id], by, plain) if cut.id in known else cut for cut in cuts]
        write_cuts(path, cuts)
        counts = Counts(len(cuts) - sum(plain.values()), dict(sorted(plain.items())))
        state = fingerprint({**settings, "cuts": hashlib.sha256(path.read_bytes()).hexdigest()})
        temporary.write_text(json.dumps({"state": state, "counts": asdict(counts)}, indent=1) + "\n")
    partial.unlink()
    left = ", ".join(f"{times} {reason}" for reason, times in counts.plain.items()) or "none"
    say(f"align: {split}: {counts.aligned} of {len(cuts)} utterances have word times; plain speech: {left}")
    return counts


def _with_found(cut: MonoCut, found: Found, source: str, plain: Counter[str]) -> MonoCut:
    """Return the cut with what was found for it, if that fits; else count in `plain` why not."""
    words = check_words(cut.supervisions[0].text, found.words, cut.duration) or ()
    if not words:
        plain[found.reason or "whose given words or times do not fit the transcript"] += 1
    return with_words(cut, words, source)


def _has_words(cut: MonoCut, source: str) -> bool:
    """Tell whether a cut has usable word times of the corpus or of this source."""
    by = (cut.supervisions[0].custom or {}).get("word_times", "given")
    words = words_of(cut)
    # Asked for the given ones, the stage only checks; otherwise times of another source are replaced.
    ours = source == "given" or by in ("given", source)
    return ours and check_words(cut.supervisions[0].text, words, cut.duration) is not None


def _read_partial(path: Path, state: str) -> dict[str, Found]:
    """Read what an interrupted run of the same settings on the same cuts found; else start the file anew."""
    known: dict[str, Found] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    if not lines or lines[0] != state:
        path.write_text(state + "\n", encoding="utf-8")
        return known
    *whole, cut_off = lines  # what follows the last line break was cut off by the interruption
    for line in whole[1:]:
        row = json.loads(line)
        known[row["id"]] = Found(row["id"], tuple(Word(**word) for word in row["words"]), row["reason"])
    if cut_off:
        with replacing(path) as temporary:
            temporary.write_text("\n".join(whole) + "\n", encoding="utf-8")
    return known


def _source(config: Config) -> tuple[Source, str]:
    """Return the source of word times, and the digest of what its answers depend on beside the cuts."""
    options = config.align
    if options.source == "given":
        return _given, ""
    if options.source == "pocketsphinx":
        return partial_of(_pocketsphinx, jobs=options.jobs), forced_alignment.VERSION
    if options.source == "whisper":
        whisper = WhisperTimes(config)
        return whisper, whisper.digest()
    if options.source not in ("ctc", "ctm", "textgrid"):
        names = ["ctc", "ctm", "given", "pocketsphinx", "textgrid", "whisper"]
        raise unknown_name("align.source", options.source, names)
    path = Path(require(options.path, "align.path"))
    if options.source == "ctc":
        aligner = CTCTimes(config, path)
        return aligner, aligner.digest()
    if options.source == "ctm":
        times = read_ctm(path)
        return partial_of(_ctm, times=times), hashlib.sha256(path.read_bytes()).hexdigest()
    grids = {each.stem: each for each in sorted(path.rglob("*")) if each.suffix.lower() == ".textgrid"}
    if not grids:
        raise DataError(f"there is no TextGrid in {path.absolute()}: check align.path")
    contents = {name: hashlib.sha256(each.read_bytes()).hexdigest() for name, each in grids.items()}
    return partial_of(_textgrid, grids=grids), fingerprint(contents)


def _given(cuts: list[Any]) -> Iterator[Found]:
    """Whoever asks has none: words of the corpus came with the cuts."""
    return (Found(cut.id, reason="without word times in the corpus") for cut in cuts)


def _ctm(cuts: list[Any], times: dict[str, list[Word]]) -> Iterator[Found]:
    for cut in cuts:
        words = tuple(times.get(cut.id, ()))
        yield Found(cut.id, words, "" if words else "not in the CTM file")


def _textgrid(cuts: list[Any], grids: dict[str, Path]) -> Iterator[Found]:
    for cut in cuts:
        if cut.id in grids:
            yield Found(cut.id, tuple(read_textgrid(grids[cut.id])))
        else:
            yield Found(cut.id, reason="without a TextGrid")


def _pocketsphinx(cuts: list[Any], jobs: int) -> Iterator[Found]:
    """Align by force, in processes of their own if there are to be several."""
    pieces = [
        Piece(cut.id, cut.recording.sources[0].source, cut.start, cut.duration, cut.supervisions[0].text)
        for cut in cuts
    ]
    if jobs <= 1 or len(pieces) <= jobs:
        yield from map(align_piece, pieces)
        return
    # Fresh processes, not forks: a fork copies torch's threads and the bar's lock in whatever state they are.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield from pool.map(align_piece, pieces, chunksize=4)
    except BrokenProcessPool as error:
        raise DataError("an aligning process died (out of memory?); run again to go on from here") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when its parent is killed: it would wait for work forever, holding its memory."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()
