"""Distorted copies of the training speech: another speed, a room, noise. Drawn by the utterance's id.

Frozen frames are computed once, so augmentation comes before them: a copy is one more utterance in the cache.
Speed changes pitch and formants too, which makes one voice into several (Ko et al. 2015); rooms and noise are
what synthesised or read speech has none of (Ko et al. 2017).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from toolkit.data.audio import stretch
from toolkit.data.seeding import seeded
from toolkit.types import Example, Word

MOST = 0.15
"""largest change of speed, as a share"""
DECAY = (0.1, 0.5)
"""seconds in which the room falls by 60 dB"""
NOISE = (10.0, 30.0)
"""signal to noise, dB"""


_VERSION = hashlib.sha256(repr((MOST, DECAY, NOISE, 1)).encode()).hexdigest()[:4]
"""of what a copy sounds like: frames of copies made otherwise go by another name"""


def copy_name(name: str, number: int) -> str:
    """Name a copy, counted from 1."""
    return f"{name}~{number}~{_VERSION}"


def copies_of(duration: float, copies: int, longest: float) -> range:
    """Return the numbers of an utterance's copies: none if the slowest could be longer than `longest` seconds."""
    return range(1, copies + 1 if duration <= longest * (1 - MOST) else 1)


def copy_of(example: Example, number: int) -> Example:
    """Return the example of a copy, its times those of its speed."""
    speed = _speed(example.id, number)
    words = tuple(Word(word.text, word.start / speed, word.end / speed) for word in example.words)
    return replace(example, id=copy_name(example.id, number), duration=example.duration / speed, words=words)


def distort(samples: NDArray[np.float32], rate: int, name: str, number: int) -> NDArray[np.float32]:
    """Return copy `number` of utterance `name`: (samples,) at `rate` Hz -> (samples / speed,)."""
    rng = np.random.default_rng(seeded(name, number, "room").getrandbits(64))
    heard = stretch(samples, Fraction(100, round(100 * _speed(name, number)))).astype(np.float64)
    # A direct path, then noise that dies away: what is left of a room when its geometry is forgotten.
    decay = rng.uniform(*DECAY)
    time = np.arange(round(decay * rate)) / rate
    room = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay)
    room *= rng.uniform(0.1, 0.7) / max(np.sqrt(np.sum(room**2)), 1e-9)
    room[0] = 1.0
    size = len(heard) + len(room)
    heard = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(room, size), size)[: len(heard)]
    noise = _coloured(rng, len(heard), rng.uniform(0.0, 1.0))
    level = np.sqrt(np.mean(heard**2)) * 10 ** (-rng.uniform(*NOISE) / 20)
    heard = heard + level * noise
    peak = np.abs(samples).max(initial=1e-9)
    return np.asarray(heard * (peak / np.abs(heard).max(initial=1e-9)), dtype=np.float32)


def _speed(name: str, number: int) -> float:
    """Return the speed of a copy, in hundredths: slower or faster by at least 5 %."""
    rng = seeded(name, number, "speed")
    change = rng.uniform(0.05, MOST)
    return round(1 + rng.choice((-change, change)), 2)


def _coloured(rng: np.random.Generator, length: int, slope: float) -> NDArray[np.float64]:
    """Return noise of unit power whose amplitude falls as frequency ** -slope: 0 is white, 0.5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= np.maximum(np.arange(len(spectrum)), len(spectrum) / 100) ** slope
    noise = np.fft.irfft(spectrum, length)
    return np.asarray(noise / max(np.sqrt(np.mean(noise**2)), 1e-9))
