"""Prepare: corpus -> cuts. Every utterance is looked at once, and each that is left out is named or counted.

Audio is decoded to its end, so that a broken file stops this stage and not the training. Nothing is ever cut
short: what is too long is an error or, on request, left out whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.config import Config, require
from toolkit.data.alignment import cased, check_words, normal
from toolkit.data.audio import TOLERANCE, AudioError, audio_info, read_audio
from toolkit.data.corpora import Utterance, manifest_files, read_corpus
from toolkit.data.cuts import make_cut, replacing, write_cuts
from toolkit.data.fingerprint import fingerprint
from toolkit.errors import ConfigError, DataError
from toolkit.schema import PrepareConfig
from toolkit.stages.paths import SPLITS, SUMMARY, cuts_path
from toolkit.stages.progress import bar, say

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

_VERSION = 1
"""to be raised when the same settings make other cuts"""
_CHOICES = {
    "too_long": ("error", "skip"),
    "bad_audio": ("error", "skip"),
    "case": ("keep", "lower", "sentence"),
}


@dataclass
class Counts:
    """What became of a split; `<split>/summary.json` holds the same."""

    utterances: int = 0
    hours: float = 0.0
    speakers: int = 0
    distinct_words: int = 0
    with_word_times: int = 0
    """utterances whose word times the corpus gives, and that fit"""
    unusable_word_times: int = 0
    """utterances whose given word times do not fit the transcript or the audio: they stay plain speech"""
    skipped: dict[str, int] = field(default_factory=dict)
    """reason -> utterances left out; where `dev` is made out of `train`, all are counted in `train`"""


def run(config: Config) -> dict[str, Counts]:
    """Write `<data_dir>/<split>/cuts.jsonl.gz` and `summary.json` for every split.

    Splits made from the same settings and manifests are kept as they are.

    Returns:
        what is in each split.

    Raises:
        ConfigError: a setting is missing or impossible.
        DataError: the corpus is broken, or an utterance is bad and the policy is `error`.
    """
    options = _checked(config.prepare)
    # The settings of all splits come first: a split that is not there is found out before any is decoded.
    splits = [(split, part, _settings(options, split, part)) for split, part in options.splits.items()]
    counts: dict[str, Counts] = {}
    for split, part, settings in splits:
        names = [split, "dev"] if split == "train" and options.development else [split]
        paths = [cuts_path(config, name) for name in names]
        done = [_done(path, settings) for path in paths]
        if all(done):
            say(f"prepare: {' and '.join(names)} made from the same settings already; kept")
            counts |= {name: each for name, each in zip(names, done, strict=True) if each}
            continue
        for name, path, (cuts, count) in zip(names, paths, _prepare(options, split, part), strict=True):
            _write(path, cuts, count, settings)
            left_out = ", ".join(f"{times} {reason}" for reason, times in count.skipped.items()) or "none"
            say(f"prepare: {name}: {count.utterances} utterances, {count.hours:.2f} h; left out: {left_out}")
            counts[name] = count
    for name in SPLITS:
        if name not in counts and cuts_path(config, name).exists():
            say(f"prepare: {name} is there from an earlier run, and the later stages will use it, too")
    return counts


def _checked(options: PrepareConfig) -> PrepareConfig:
    """Return the options if they make sense, without splits that are not wanted."""
    options = replace(options, splits={split: part for split, part in options.splits.items() if part})
    corpus = require(options.corpus, "prepare.corpus")
    require(options.format, "prepare.format")
    for key, choices in _CHOICES.items():
        if getattr(options, key) not in choices:
            raise ConfigError(f"prepare.{key}={getattr(options, key)} is not one of {', '.join(choices)}")
    if not options.splits or not set(options.splits) <= set(SPLITS):
        raise ConfigError(
            f"prepare.splits={options.splits} must name some of {', '.join(SPLITS)}, "
            "such as prepare.splits.train=train-clean-100"
        )
    if options.development and ("dev" in options.splits or "train" not in options.splits):
        raise ConfigError("prepare.development makes dev out of train: prepare.splits needs train, and no dev")
    return replace(options, corpus=str(Path(corpus).absolute()))


def _settings(options: PrepareConfig, split: str, part: str) -> str:
    """Digest all that decides what the cuts of a split are, but the audio itself."""
    files = manifest_files(options.format, options.corpus, part)
    contents = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    values = {**asdict(options), "splits": [split, part], "manifests": contents, "version": _VERSION}
    return fingerprint(values)


def _done(path: Path, settings: str) -> Counts | None:
    """Return the counts of a split that these settings have made already."""
    summary = path.with_name(SUMMARY)
    if not path.is_file() or not summary.is_file():
        return None
    content = json.loads(summary.read_text())
    return Counts(**content["counts"]) if content["settings"] == settings else None


def _write(path: Path, cuts: list[MonoCut], counts: Counts, settings: str) -> None:
    """Replace the cuts and the summary of a split: an interruption between the two leaves no summary."""
    summary = path.with_name(SUMMARY)
    with replacing(summary) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "counts": asdict(counts)}, indent=1) + "\n")
        with replacing(path) as new:
            write_cuts(new, cuts)
            summary.unlink(missing_ok=True)


def _prepare(options: PrepareConfig, split: str, part: str) -> Iterator[tuple[list[MonoCut], Counts]]:
    """Yield the cuts of a split, and then of the `dev` made from it, in the corpus' order.

    The choice is by the digest of the ids: it is the same on every machine, whatever the corpus' order, and
    adding utterances moves few.
    """
    utterances = list(read_corpus(options.format, options.corpus, part))
    repeated = [name for name, times in Counter(each.id for each in utterances).items() if times > 1]
    if repeated:
        raise DataError(f"{options.corpus}, {part}: utterance '{repeated[0]}' occurs more than once")
    order = sorted(range(len(utterances)), key=lambda i: hashlib.sha256(utterances[i].id.encode()).digest())
    limit = options.max_utterances or len(utterances)
    development = min(options.development, limit) if split == "train" else 0
    kept: dict[int, MonoCut] = {}
    skipped: Counter[str] = Counter()
    with bar(f"prepare {split}", min(len(order), limit + development)) as progress:
        for index in order:
            if len(kept) == limit + development:
                break
            try:
                kept[index] = _cut(options, utterances[index])
            except _LeftOutError as problem:
                skipped[problem.reason] += 1
            progress.advance()
    if len(kept) <= development:
        raise DataError(
            f"{options.corpus}, {part}: {len(kept)} usable utterances of {len(utterances)} leave nothing for "
            f"{split} (left out: {dict(skipped)}; prepare.development={options.development})"
        )
    chosen = list(kept)
    for indices in (chosen[development:], chosen[:development]) if development else (chosen,):
        cuts = [kept[index] for index in sorted(indices)]
        yield cuts, _count(cuts, [utterances[index] for index in indices], skipped)
        skipped = Counter()


class _LeftOutError(DataError):
    """An utterance that the settings allow to leave out."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def _cut(options: PrepareConfig, utterance: Utterance) -> MonoCut:
    """Check an utterance and make its cut.

    Raises:
        DataError: it is bad, and the policy is `error`.
        _LeftOutError: it is bad, and the policy is `skip`.
    """
    name, path = utterance.id, utterance.audio
    text = cased(utterance.transcript, options.case)
    length = None if utterance.end is None else round(utterance.end - utterance.start, 8)
    try:
        if not normal(text):
            raise AudioError(f"utterance '{name}' of {path} has an empty transcript", "empty transcript")
        if path is None:
            raise AudioError(f"utterance '{name}' has a transcript and no audio in wav.scp", "missing audio")
        samples, rate = read_audio(path, start=utterance.start, duration=length, name=name)
        seconds = len(samples) / rate
        if utterance.duration is not None and abs(seconds - utterance.duration) > TOLERANCE:
            raise AudioError(
                f"utterance '{name}': {path} lasts {seconds:.2f} s and the manifest says "
                f"{utterance.duration:.2f} s; it is another recording, or was cut off",
                "wrong duration",
            )
    except AudioError as error:
        raise _refusal(str(error), "bad_audio", options.bad_audio, error.reason) from error
    if seconds > options.max_duration:
        message = f"utterance '{name}' of {path} lasts {seconds:.2f} s, more than prepare.max_duration="
        raise _refusal(f"{message}{options.max_duration:g}", "too_long", options.too_long, "too long")
    _, announced, channels = audio_info(path)
    return make_cut(
        name, path, text, sampling_rate=rate, num_samples=len(samples) if length is None else announced,
        channels=channels,
        recording=utterance.recording, start=utterance.start,
        duration=None if length is None else min(length, seconds),
        speaker=utterance.speaker, custom=utterance.custom,
        words=check_words(text, utterance.words, seconds) or (),
    )  # fmt: skip


def _refusal(message: str, key: str, policy: str, reason: str) -> DataError:
    if policy == "skip":
        return _LeftOutError(message, reason)
    return DataError(f"{message}. To leave such utterances out, and have them counted: prepare.{key}=skip")


def _count(cuts: Seq[MonoCut], utterances: Seq[Utterance], skipped: Counter[str]) -> Counts:
    timed = sum(bool(cut.supervisions[0].alignment) for cut in cuts)
    words = {normal(word) for cut in cuts for word in cut.supervisions[0].text.split()}
    return Counts(
        utterances=len(cuts),
        hours=round(sum(cut.duration for cut in cuts) / 3600, 4),
        speakers=len({cut.supervisions[0].speaker for cut in cuts}),
        distinct_words=len(words - {""}),
        with_word_times=timed,
        unusable_word_times=sum(bool(each.words) for each in utterances) - timed,
        skipped=dict(sorted(skipped.items())),
    )
