"""Reading audio: mono samples at the rate asked for, or an error that says what is wrong with the file.

Nothing is repaired in silence: channels are averaged and rates converted with one line in the log for each
kind, and a file that is missing, unreadable, truncated, empty or silent is an `AudioError`.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.errors import DataError

SILENCE = 1e-4
"""a peak below this (-80 dB of full scale) is a file without sound"""
TOLERANCE = 0.05
"""seconds that a manifest and its audio may differ by"""

log = logging.getLogger(__name__)
_said: set[str] = set()


class AudioError(DataError):
    """Audio that cannot be used."""

    def __init__(self, message: str, reason: str = "unreadable audio") -> None:
        # Only the message goes to `args`, or the exception could not be unpickled in a parent process.
        super().__init__(message)
        self.reason = reason
        """one of `missing audio`, `unreadable audio`, `truncated audio`, `empty audio`, `silent audio`"""


def load_audio(
    path: str | Path, sampling_rate: int, *, start: float = 0.0, duration: float | None = None, name: str = ""
) -> torch.Tensor:
    """Read a file, or a piece of it, as mono samples at `sampling_rate`.

    Args:
        path: WAV, FLAC, Ogg (Opus, Vorbis), MP3 or whatever else libsndfile reads.
        sampling_rate: the rate wanted, in Hz; other rates are resampled.
        start: seconds into the file.
        duration: seconds to read; None reads to the end.
        name: the utterance, for error messages.

    Returns:
        (samples,) float32 in [-1, 1].

    Raises:
        AudioError: the file is missing, unreadable, truncated, empty or silent.
    """
    samples, rate = read_audio(path, start=start, duration=duration, name=name)
    return torch.from_numpy(resample(samples, rate, sampling_rate))


def read_audio(
    path: str | Path, *, start: float = 0.0, duration: float | None = None, name: str = ""
) -> tuple[NDArray[np.float32], int]:
    """Read a file, or a piece of it, as mono samples at its own rate; see `load_audio`.

    Returns:
        (samples,) float32, and the file's sampling rate in Hz.
    """
    import soundfile

    path = Path(path)
    who = f"utterance '{name}': " if name else ""
    if not path.is_file():
        raise AudioError(f"{who}there is no audio file {path}; check the path", "missing audio")
    if path.stat().st_size == 0:
        raise AudioError(f"{who}{path} is an empty file; copy it again", "empty audio")
    try:
        with soundfile.SoundFile(path) as file:
            rate, total = int(file.samplerate), int(file.frames)
            first = round(start * rate)
            wanted = total - first if duration is None else round(duration * rate)
            file.seek(min(first, total))
            samples: NDArray[np.float32] = file.read(max(wanted, 0), dtype="float32", always_2d=True)
    except (RuntimeError, OSError, TypeError) as error:  # libsndfile's own, or the file system's
        raise AudioError(
            f"{who}cannot decode {path} ({error}); copy it again, or convert it to WAV, FLAC or Ogg"
        ) from error
    if total == 0 or wanted == 0:
        raise AudioError(f"{who}{path} holds no samples; record or copy it again", "empty audio")
    # A requested piece may miss the last samples by rounding; more than that is missing audio.
    slack = 0 if duration is None else round(TOLERANCE * rate)
    if len(samples) < wanted - slack or _ends_early(path):
        raise AudioError(
            f"{who}{path} is truncated: it holds {len(samples) / rate:.2f} s from {start:.2f} s on, and more "
            "was announced; copy it again",
            "truncated audio",
        )
    if samples.shape[1] > 1:
        _say_once(f"audio with {samples.shape[1]} channels is averaged to one channel", path)
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioError(f"{who}{path} holds samples that are not numbers; convert it again")
    if np.abs(mono).max(initial=0.0) < SILENCE:
        raise AudioError(f"{who}{path} is silent (no sample reaches {SILENCE}); leave it out", "silent audio")
    return mono, rate


def resample(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Convert (samples,) from `rate` to `wanted` Hz with a polyphase filter; said once per pair of rates."""
    if rate == wanted:
        return samples
    _say_once(f"audio at {rate} Hz is resampled to {wanted} Hz")
    return stretch(samples, Fraction(wanted, rate))


def stretch(samples: NDArray[np.float32], ratio: Fraction) -> NDArray[np.float32]:
    """Resample (n,) to (ceil(n * ratio),) samples; at an unchanged rate that is 1 / ratio times the speed."""
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), dtype=np.float32)


def audio_info(path: Path) -> tuple[int, int, int]:
    """Return the sampling rate (Hz), samples and channels that a file's header announces.

    Raises:
        AudioError: libsndfile does not know the format.
    """
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:
        raise AudioError(f"cannot read the header of {path} ({error}); convert it to WAV or FLAC") from error
    return int(info.samplerate), int(info.frames), int(info.channels)


def _ends_early(path: Path) -> bool:
    """Tell whether the container itself shows a missing end, where libsndfile reads on without a word."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            while len(chunk := file.read(8)) == 8:
                announced = int.from_bytes(chunk[4:], "little")
                if chunk[:4] == b"data":  # programs that write to a pipe announce 0 or the largest number
                    return announced < 0xFFFFF000 and file.tell() + announced > size
                file.seek(announced + announced % 2, 1)
        elif head[:4] == b"OggS":
            file.seek(max(0, size - 65_307))  # the longest page
            tail = file.read()
            page = tail[tail.rfind(b"OggS") :]
            segments = page[26] if len(page) > 26 else 255
            return 27 + segments + sum(page[27 : 27 + segments]) > len(page)
    return False


def _say_once(what: str, where: Path | None = None) -> None:
    if what not in _said:
        _said.add(what)
        log.warning("%s%s", what, f" (first met in {where})" if where else "")
