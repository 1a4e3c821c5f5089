from __future__ import annotations

import numpy as np
import pytest

from toolkit.scoring.bootstrap import Array, Resampling, estimate
from toolkit.scoring.metrics import share

IDS = [f"u{number // 2}" for number in range(80)]  # two rows an utterance
HITS = np.random.default_rng(0).integers(0, 2, size=80).astype(float)
COLUMNS = np.stack([HITS, np.ones(80)], axis=1)


def test_interval_holds_the_value_and_counts_rows_and_utterances() -> None:
    found = estimate(IDS, COLUMNS, share, Resampling())
    assert found.value is not None
    assert found.value == pytest.approx(100 * HITS.mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert (found.n, found.utterances) == (80, 40)


def test_interval_is_seeded() -> None:
    assert estimate(IDS, COLUMNS, share, Resampling()) == estimate(IDS, COLUMNS, share, Resampling())
    assert estimate(IDS, COLUMNS, share, Resampling()) != estimate(IDS, COLUMNS, share, Resampling(seed=2))


def test_constant_data_give_a_point() -> None:
    constant = np.stack([np.ones(80), np.full(80, 4.0)], axis=1)
    found = estimate(IDS, constant, share, Resampling())
    assert (found.low, found.value, found.high) == (25.0, 25.0, 25.0)


def test_rows_of_an_utterance_are_drawn_together() -> None:
    # A hit and a miss in every utterance: whatever utterances are drawn, half the rows are hits.
    halves = np.stack([np.tile([1.0, 0.0], 40), np.ones(80)], axis=1)
    found = estimate(IDS, halves, share, Resampling())
    assert (found.low, found.high) == (50.0, 50.0)
    apart = estimate([str(number) for number in range(80)], halves, share, Resampling())
    assert apart.low is not None
    assert apart.low < 45


def test_width_is_that_of_the_normal_approximation() -> None:
    hits = np.tile([1.0, 0.0], 200)
    found = estimate([str(n) for n in range(400)], np.stack([hits, np.ones(400)], axis=1), share, Resampling(4000))
    assert found.low == pytest.approx(50 - 1.96 * 100 * 0.5 / 20, abs=0.5)
    assert found.high == pytest.approx(50 + 1.96 * 100 * 0.5 / 20, abs=0.5)


def test_no_interval_without_data_without_resamples_and_from_one_utterance() -> None:
    nothing = estimate([], np.zeros((0, 2)), share, Resampling())
    assert (nothing.value, nothing.low, nothing.n) == (None, None, 0)
    one = estimate(["a", "a"], COLUMNS[:2], share, Resampling())
    assert (one.low, one.note) == (None, "no interval from one utterance")
    assert estimate(IDS, COLUMNS, share, Resampling(0)).note == "no interval was asked for"


def test_a_score_is_worked_out_for_all_resamples_at_once() -> None:
    shapes: list[tuple[int, ...]] = []

    def watched(sums: Array) -> Array:
        shapes.append(sums.shape)
        return share(sums)

    ids = [f"u{number // 8}" for number in range(4000)]
    found = estimate(ids, np.ones((4000, 3)), watched, Resampling(1000, seed=99))
    assert shapes == [(3,), (1000, 3)]
    assert (found.low, found.value, found.high) == (100.0, 100.0, 100.0)
