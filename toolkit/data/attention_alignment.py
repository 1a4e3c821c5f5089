"""Forced alignment by cross-attention: while Whisper's decoder writes a token, it looks at where that is said.

The word timestamps of Whisper (Radford et al. 2022, arXiv 2212.04356, and its code): the attention of the heads that
follow the speech is compared between tokens frame by frame, smoothed by a median, averaged, and warped: tokens and
frames are walked through together on the path of most attention. There a frame may have several tokens, and a word no
time at all; here each token has at least a frame, so that every word is said somewhere (ours).

Letters: H attention heads, N decoding steps, T frames of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from toolkit.types import Word

WIDTH = 7
"""frames of the median, as in Whisper's code"""


def attention_scores(attention: Tensor, width: int = WIDTH) -> Tensor:
    """Say how much each step looks at each frame, measured by how much the others do.

    Args:
        attention: (H, N, T) weights of the steps on the frames of the utterance alone, not of the silence after it.
        width: odd, frames of the median.

    Returns:
        (N, T)
    """
    weights = attention / attention.sum(-1, keepdim=True)
    deviation, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
    weights = (weights - mean) / deviation.clamp(min=1e-12)  # 0 where all steps are alike
    half = width // 2
    if weights.shape[-1] > half:
        weights = pad(weights, (half, half), mode="reflect").unfold(-1, width, 1).median(-1).values
    return weights.mean(0)


def best_walk(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Walk through steps and frames together, from the first of both to the last of both.

    Dynamic time warping in which every frame has one step and every step at least one frame.

    Args:
        scores: (N, T), N <= T.

    Returns:
        (T,) the step of each frame, on the walk whose scores add up to the most.
    """
    steps, frames = scores.shape
    best = np.full(steps, -np.inf)
    best[0] = scores[0, 0]
    moved = np.zeros((frames, steps), dtype=bool)
    for frame in range(1, frames):
        before = np.concatenate([[-np.inf], best[:-1]])
        moved[frame] = before > best  # alike, a step stays as long as it can
        best = np.maximum(best, before) + scores[:, frame]
    walk = np.empty(frames, dtype=np.int64)
    step = steps - 1
    for frame in range(frames - 1, -1, -1):
        walk[frame] = step
        step -= int(moved[frame, step])
    return walk


def words_on(
    walk: NDArray[np.int64], texts: Seq[str], spans: Seq[tuple[int, int]], shift: float, duration: float
) -> tuple[Word, ...]:
    """Time words by the frames of their tokens.

    Args:
        walk: (T,) from `best_walk`.
        texts: of the words.
        spans: of each word, the first step that is said and the one after the last.
        shift: seconds from one frame to the next.
        duration: of the utterance, in seconds: no word ends later.
    """
    edges = [np.searchsorted(walk, span) * shift for span in spans]
    return tuple(Word(text, float(a), min(float(b), duration)) for text, (a, b) in zip(texts, edges, strict=True))
