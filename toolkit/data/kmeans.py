"""K-means: k-means++ seeding (Arthur and Vassilvitskii 2007) and Lloyd's iterations, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from toolkit.errors import DataError

_ROWS = 8192
"""points whose distances to all centroids are held at once"""


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Find the centroid next to each point; of two that are equally near, the first.

    Args:
        points: (N, D).
        centroids: (K, D).

    Returns:
        (N,) which centroid, and (N,) the squared distance to it.
    """
    middle = centroids.mean(0)  # far from the origin, the squares would swallow the differences
    found, distances = [], []
    for part in points.split(_ROWS):
        found.append(torch.cdist(part - middle, centroids - middle).argmin(1))
        distances.append((part - centroids[found[-1]]).square().sum(1))
    return torch.cat(found), torch.cat(distances)


def plus_plus(points: Tensor, count: int, seed: int) -> Iterator[Tensor]:
    """Draw `count` points of (N, D), each (D,) with a chance that grows with the square of its distance to the others.

    Raises:
        DataError: the points do not differ enough.
    """
    generator = torch.Generator().manual_seed(seed)
    chances = torch.ones(len(points), dtype=torch.float64)
    distances = torch.full((len(points),), torch.inf, dtype=torch.float64)
    for drawn in range(count):
        sums = chances.cumsum(0)
        if not float(sums[-1]) > 0:
            raise DataError(f"there are only {drawn} different frames for {count} units: take more, or fewer units")
        # A number below the last sum; `right`, so that a point without a chance is never found.
        place = torch.rand(1, generator=generator, dtype=torch.float64) * sums[-1]
        index = int(torch.searchsorted(sums, place, right=True).clamp(max=len(points) - 1))
        yield points[index]
        # Without matrix products, by which a point would lie at some distance from itself.
        away = torch.cdist(points, points[index][None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
        distances = torch.minimum(distances, away.double() ** 2)
        chances = distances


def lloyd(points: Tensor, centroids: Tensor, iterations: int) -> Iterator[tuple[Tensor, float]]:
    """Move centroids to the means of their points until none changes hands, at most `iterations` times.

    A centroid that has lost all its points takes the one that lies farthest from its own (ours).

    Yields:
        (K, D) the centroids, and the mean squared distance of the points (N, D) to them.
    """
    found, distances = nearest(points, centroids)
    for _ in range(iterations):
        owners = found.clone()
        empty = (owners.bincount(minlength=len(centroids)) == 0).nonzero()[:, 0]
        owners[distances.topk(len(empty)).indices] = empty
        counts = owners.bincount(minlength=len(centroids))[:, None]
        sums = torch.zeros_like(centroids).index_add_(0, owners, points)
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
        before = found
        found, distances = nearest(points, centroids)
        yield centroids, float(distances.mean())
        if torch.equal(found, before):
            return
