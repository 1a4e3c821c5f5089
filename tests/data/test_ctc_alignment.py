"""The most probable path is the one that a search through all paths finds, whatever the row is batched with."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.ctc_alignment import best_paths, words_at
from toolkit.types import Padded, Word


def spoken(path: tuple[int, ...]) -> list[int]:
    """The labels of a path: runs merged, then blanks dropped."""
    return [label for label, _ in groupby(path) if label]


def searched(logits: torch.Tensor, labels: list[int]) -> float:
    """The best score of every path through (T, K + 1) that says the labels."""
    scores = logits.log_softmax(-1).tolist()
    paths = product(range(logits.shape[1]), repeat=len(scores))
    found = [
        sum(row[label] for row, label in zip(scores, path, strict=True)) for path in paths if spoken(path) == labels
    ]
    return max(found, default=float("-inf"))


@st.composite
def rows(draw: st.DrawFn) -> tuple[torch.Tensor, list[int]]:
    """Logits of 1 to 5 steps over 2 labels and the blank, and up to 3 labels, repeats included."""
    steps = draw(st.integers(1, 5))
    logits = torch.randn(steps, 3, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    return 2 * logits, draw(st.lists(st.integers(1, 2), max_size=3))


@given(st.lists(rows(), min_size=1, max_size=4))
def test_no_path_is_better(batch: list[tuple[torch.Tensor, list[int]]]) -> None:
    logits = Padded.of([row for row, _ in batch])
    logits = Padded(torch.where(logits.mask[..., None], logits.values, torch.tensor(torch.nan)), logits.lengths)
    labels = Padded.of([torch.tensor(row, dtype=torch.long) for _, row in batch])
    paths, scores = best_paths(logits, labels)
    for (row, own), path, score in zip(batch, paths, scores.tolist(), strict=True):
        assert score == pytest.approx(searched(row, own), abs=1e-4)
        if score == float("-inf"):
            continue
        said = path[: len(row)].tolist()
        assert [n for n, _ in groupby(said) if n >= 0] == list(range(len(own)))
        told = row.log_softmax(-1)
        assert score == pytest.approx(
            sum(float(told[t, own[n] if n >= 0 else 0]) for t, n in enumerate(said)), abs=1e-4
        )
        assert path[len(row) :].tolist() == [-1] * (paths.shape[1] - len(row))


def test_a_label_said_twice_needs_a_blank_between() -> None:
    sure = torch.full((4, 3), -9.0)
    sure[range(4), [1, 1, 0, 1]] = 9.0
    labels = Padded.of([torch.tensor([1, 1])])
    assert best_paths(Padded.of([sure]), labels)[0].tolist() == [[0, 0, -1, 1]]
    assert best_paths(Padded.of([sure[:2]]), labels)[1].tolist() == [float("-inf")]


def test_words_last_from_their_first_label_to_their_last_and_no_longer_than_the_utterance() -> None:
    said = torch.tensor([-1, 0, 0, -1, 1, 2, -1, 3])
    assert words_at(said, ("hello", "my", "world"), (2, 1, 1), 0.25, 1.9) == (
        Word("hello", 0.25, 1.25), Word("my", 1.25, 1.5), Word("world", 1.75, 1.9),
    )  # fmt: skip
