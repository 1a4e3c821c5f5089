from itertools import pairwise

import pytest
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from toolkit.data.kmeans import lloyd, nearest, plus_plus
from toolkit.errors import DataError


def cloud(points: int = 600, seed: int = 0) -> Tensor:
    return torch.randn(points, 5, generator=torch.Generator().manual_seed(seed))


def heaps(count: int, each: int = 20) -> Tensor:
    """Heaps so far apart that there is one right answer, around 1000, 2000, ..."""
    middles = 1000.0 * torch.arange(1, count + 1)
    return (middles[:, None, None] + 0.1 * cloud(count * each).reshape(count, each, 5)).flatten(0, 1)


def test_nearest_is_what_all_distances_say() -> None:
    points, centroids = cloud(9000) + 1000, cloud(40, seed=1) + 1000
    found, distances = nearest(points, centroids)
    every = (points.double()[:, None] - centroids.double()[None]).square().sum(-1)
    torch.testing.assert_close(distances.double(), every.min(1).values, atol=1e-3, rtol=1e-3)
    assert int((found != every.argmin(1)).sum()) == 0


def test_of_two_equally_near_the_first_is_taken() -> None:
    assert nearest(torch.zeros(1, 1), torch.tensor([[1.0], [-1.0], [1.0]]))[0].tolist() == [0]


def test_lloyd_moves_as_scipy_does() -> None:
    points = cloud()
    start = torch.stack(list(plus_plus(points, 12, seed=3)))
    ours = [centroids for centroids, _ in lloyd(points, start, 7)][-1]
    theirs, _ = kmeans2(points.double().numpy(), start.double().numpy(), iter=7, minit="matrix")
    torch.testing.assert_close(ours, torch.from_numpy(theirs).float(), atol=1e-4, rtol=1e-4)


def test_every_move_is_nearer_and_the_last_moves_nothing() -> None:
    points = cloud()
    steps = list(lloyd(points, points[:8], 500))
    errors = [error for _, error in steps]
    assert len(steps) < 500
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(errors))
    again = list(lloyd(points, steps[-1][0], 2))
    torch.testing.assert_close(again[0][0], steps[-1][0])


@pytest.mark.parametrize("seed", range(5))
def test_heaps_are_found(seed: int) -> None:
    points = heaps(6)
    start = torch.stack(list(plus_plus(points, 6, seed)))
    assert sorted((start.mean(1) / 1000).round().int().tolist()) == [1, 2, 3, 4, 5, 6]
    *_, (centroids, error) = lloyd(points, start, 20)
    means = points.reshape(6, 20, 5).mean(1)
    torch.testing.assert_close(centroids[centroids[:, 0].argsort()], means, atol=1e-3, rtol=1e-6)
    assert error < 0.1


def test_the_seed_decides() -> None:
    points = cloud()
    draws = [torch.stack(list(plus_plus(points, 10, seed))) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_seeds_differ_and_too_few_points_are_counted() -> None:
    points = cloud(7).repeat(50, 1) + 300
    seeds = list(plus_plus(points, 7, seed=0))
    assert len({tuple(seed.tolist()) for seed in seeds}) == 7
    with pytest.raises(DataError, match="only 7 different frames for 8 units"):
        list(plus_plus(points, 8, seed=0))


def test_a_centroid_that_nobody_is_near_gets_points() -> None:
    points = heaps(3)
    start = torch.stack([points[0], points[20], torch.full((5,), 9e6)])
    *_, (centroids, _) = lloyd(points, start, 20)
    assert len(nearest(points, centroids)[0].unique()) == 3


def test_one_point_cannot_fill_two_centroids_and_nothing_becomes_nan() -> None:
    *_, (centroids, error) = lloyd(torch.ones(4, 2), torch.tensor([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]]), 5)
    assert bool(torch.isfinite(centroids).all())
    assert error < 1e-6
