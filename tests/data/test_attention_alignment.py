"""Attention to word times, by numbers that can be checked by hand, by brute force and against transformers' warping."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.data.attention_alignment import attention_scores, best_walk, words_on
from toolkit.types import Word


def test_scores_compare_the_steps_at_each_frame() -> None:
    looked = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # of two values, one deviation above and below their mean
    torch.testing.assert_close(attention_scores(looked, width=1), expected)
    torch.testing.assert_close(attention_scores(2 * looked, width=1), expected)  # only shares count


def test_scores_where_all_steps_are_alike_say_nothing() -> None:
    assert attention_scores(torch.full((2, 3, 20), 0.05)).abs().max() == 0


def test_the_median_takes_out_what_is_shorter_than_its_half_and_keeps_the_ends() -> None:
    first = torch.tensor([0.8, 0.8, 0.2, 0.8, 0.8, 0.2, 0.2, 0.2])
    scores = attention_scores(torch.stack([first, 1 - first])[None] + 1e-3, width=3)
    assert (scores[0] > scores[1]).tolist() == [True] * 5 + [False] * 3


def test_heads_are_averaged_after_each_is_smoothed() -> None:
    torch.manual_seed(0)
    heads = torch.rand(3, 4, 30)
    alone = torch.stack([attention_scores(head[None]) for head in heads])
    torch.testing.assert_close(attention_scores(heads), alone.mean(0))


def test_fewer_frames_than_the_median_needs_are_not_smoothed() -> None:
    looked = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]])
    torch.testing.assert_close(attention_scores(looked), attention_scores(looked, width=1))


def test_a_walk_by_hand() -> None:
    scores = np.array([[5, 1, 0, 0], [0, 2, 9, 0], [0, 3, 0, 1.0]])
    assert best_walk(scores).tolist() == [0, 1, 1, 2]  # 5 + 2 + 9 + 1: the 3 is out of order
    assert best_walk(scores[:1]).tolist() == [0, 0, 0, 0]
    assert best_walk(np.zeros((3, 3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("steps", "frames", "seed"), [(1, 4, 0), (2, 5, 1), (3, 7, 2), (4, 8, 3), (5, 5, 4)])
def test_no_other_walk_is_better(steps: int, frames: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(steps, frames))
    starts = combinations(range(1, frames), steps - 1)
    walks = [np.searchsorted(np.array(each), np.arange(frames), side="right") for each in starts]
    best = max(walks, key=lambda walk: scores[walk, np.arange(frames)].sum())
    assert best_walk(scores).tolist() == best.tolist()


def test_a_clear_case_is_what_transformers_warps() -> None:
    from transformers.models.whisper import generation_whisper

    warp: Any = generation_whisper._dynamic_time_warping
    lengths = [4, 7, 3, 9]
    scores = np.repeat(np.eye(4), lengths, axis=1) * 2 - 1
    steps, frames = warp(-scores)
    theirs = [int(frames[list(steps).index(step)]) for step in range(4)]
    assert np.searchsorted(best_walk(scores), range(4)).tolist() == theirs == [0, 4, 11, 14]


def test_words_are_timed_by_their_tokens_and_end_with_the_utterance() -> None:
    walk = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    words = words_on(walk, ["so,", "then."], [(0, 1), (2, 4)], 0.02, 0.15)
    assert words == (Word("so,", 0.0, 0.04), Word("then.", 0.1, 0.15))  # the comma is token 1, a pause
