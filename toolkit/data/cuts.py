"""The file between the stages: `<data_dir>/<split>/cuts.jsonl.gz`, lhotse cuts with one supervision each."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toolkit.data.alignment import check_words, to_recording_clock, words_of
from toolkit.data.audio import AudioError, read_audio, resample
from toolkit.errors import DataError
from toolkit.types import Example, Word

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


def make_cut(
    name: str,
    audio: Path,
    transcript: str,
    *,
    sampling_rate: int,
    num_samples: int,
    channels: int = 1,
    recording: str = "",
    start: float = 0.0,
    duration: float | None = None,
    speaker: str = "",
    custom: dict[str, Any] | None = None,
    words: Iterable[Word] = (),
) -> MonoCut:
    """Make a cut of (a piece of) an audio file, with what is said in it.

    Args:
        name: id of the utterance.
        audio: absolute path of the file.
        transcript: what is said.
        sampling_rate: of the file, in Hz.
        num_samples: of the whole file, per channel.
        channels: of the file; `load_cut_audio` averages them.
        recording: id of the recording; by default the utterance's.
        start: seconds into the file.
        duration: seconds; None means to the end of the file.
        speaker: who says it.
        custom: anything else to keep with the supervision.
        words: in seconds of the cut.
    """
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource

    recording = recording or name
    total = num_samples / sampling_rate
    length = round(total - start, 8) if duration is None else duration
    source = AudioSource(type="file", channels=list(range(channels)), source=str(audio))
    items = to_recording_clock(words, start)
    supervision = SupervisionSegment(
        id=name, recording_id=recording, start=0.0, duration=length, text=transcript, speaker=speaker or None,
        custom=custom or None, alignment={"word": items} if items else None,
    )  # fmt: skip
    return MonoCut(
        id=name, start=start, duration=length, channel=0, supervisions=[supervision],
        recording=Recording(recording, [source], sampling_rate, num_samples, total),
    )  # fmt: skip


def write_cuts(path: Path, cuts: Iterable[MonoCut]) -> None:
    """Write cuts as gzipped JSON lines, whole or not at all; the same cuts give the same bytes.

    Raises:
        DataError: the disk is full or not writable; what stood at `path` is untouched.
    """
    with (
        replacing(path) as temporary,
        temporary.open("wb") as raw,
        # Without time and name in the header, a rerun gives the same file and so the same fingerprint.
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file,
    ):
        for cut in cuts:
            file.write(json.dumps(cut.to_dict(), ensure_ascii=False).encode() + b"\n")


def read_cuts(path: Path) -> list[MonoCut]:
    """Read the cuts that `write_cuts` or lhotse itself wrote.

    Raises:
        DataError: the file is missing or damaged, or a cut has not exactly one supervision.
    """
    from lhotse.serialization import deserialize_item

    if not path.is_file():
        raise DataError(f"{path} does not exist: run `toolkit prepare` first")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            cuts = [deserialize_item(json.loads(line)) for line in file]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `toolkit prepare` again") from error
    for cut in cuts:
        if len(cut.supervisions) != 1:
            raise DataError(f"{path}: cut '{cut.id}' has {len(cut.supervisions)} supervisions instead of one")
    return cuts


def example_of(cut: MonoCut) -> Example:
    """Return the utterance of a cut as interleavers and tasks see it; unusable word times are left out."""
    transcript = cut.supervisions[0].text or ""
    words = check_words(transcript, words_of(cut), cut.duration)
    custom = {key: str(value) for key, value in (cut.supervisions[0].custom or {}).items()}
    return Example(id=cut.id, duration=cut.duration, transcript=transcript, words=words or (), metadata=custom)


def load_cut_audio(cut: MonoCut, sampling_rate: int) -> torch.Tensor:
    """Load the audio of a cut: (samples,) float32 at `sampling_rate` Hz.

    Raises:
        AudioError: the file is not what it was when the cut was made.
    """
    recording = cut.recording
    path = recording.sources[0].source
    whole = cut.start == 0 and abs(cut.duration - recording.duration) < 1 / recording.sampling_rate
    samples, rate = read_audio(path, start=cut.start, duration=None if whole else cut.duration, name=cut.id)
    if rate != recording.sampling_rate or (whole and len(samples) != recording.num_samples):
        raise AudioError(
            f"utterance '{cut.id}': {path} has changed since it was prepared ({len(samples)} samples at "
            f"{rate} Hz, not {recording.num_samples} at {recording.sampling_rate}); prepare it again"
        )
    return torch.from_numpy(resample(samples, rate, sampling_rate))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; it takes the place of `path` only when all went well.

    Raises:
        DataError: the system refuses to write, as a full disk does; what stood at `path` is untouched.
    """
    # Of this process alone: cells side by side may write the same file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}. What stood there before is untouched: "
            "put that right, and run the stage again"
        ) from error
