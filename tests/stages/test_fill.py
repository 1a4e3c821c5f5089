"""How many batches are asked together."""

import pytest

from toolkit.stages.fill import AHEAD, batches_ahead


@pytest.mark.parametrize(
    ("count", "shares", "expected"), [(0, 1, 1), (48, 1, 1), (100, 1, 2), (1113, 1, 4), (1113, 4, 1), (10**6, 4, 4)]
)
def test_batches_are_asked_together_where_there_are_enough(count: int, shares: int, expected: int) -> None:
    assert batches_ahead(count, 48, shares) == expected


@pytest.mark.parametrize("shares", [2, 3, 4, 7])
@pytest.mark.parametrize("count", [150, 1113, 5000, 20_000])
def test_shares_are_about_even(count: int, shares: int) -> None:
    chunk = 48 * batches_ahead(count, 48, shares)
    chunks = [min(chunk, count - start) for start in range(0, count, chunk)]
    parts = [sum(chunks[number::shares]) for number in range(shares)]
    assert max(parts) - min(parts) <= max(48, count / shares / AHEAD)
