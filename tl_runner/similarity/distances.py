"""Distances between two sets of feature vectors.

To compare distances over features of different scales bring these to one first:
:func:`unit_scale`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

PROJECTIONS = 100  # of the sliced distance
QUANTILES = 200  # points of a distribution in one dimension


def unit_scale(source: Array, target: Array) -> tuple[Array, Array]:
    """Both sets in float64, standardised together.

    One shift and one scale for all: together they have mean 0 and mean square distance to it 1.
    """
    both = np.concatenate([source, target]).astype(np.float64)
    centre = both.mean(0)
    scale = max(float(np.sqrt(((both - centre) ** 2).sum(1).mean())), 1e-12)
    return (source - centre) / scale, (target - centre) / scale


def mmd_test(
    source: Array, target: Array, permutations: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Squared MMD and the p of its permutation test.

    The unbiased estimate with a Gaussian kernel, and how often a random split of all samples has as
    much.

    Gretton, Borgwardt, Rasch, Schoelkopf & Smola, "A Kernel Two-Sample Test", JMLR 2012, eq. 3 and
    section 5; the bandwidth is the median squared distance. p = (1 + number of splits with at least
    the estimate) / (1 + permutations).

    Args:
        source, target: (N, d), (M, d); N and M at least 2.
    """
    kernel, n, m = gaussian(source, target), len(source), len(target)
    splits = np.zeros((n + m, permutations + 1))
    splits[:n, 0] = 1
    draw = np.random.default_rng(seed)
    for column in splits.T[1:]:
        column[draw.permutation(n + m)[:n]] = 1
    # sums over source pairs, of target pairs by difference
    inside = np.einsum("ij,ij->j", splits, kernel @ splits)
    rows, total = kernel.sum(0) @ splits, kernel.sum()
    between = rows - inside
    rest = total - inside - 2 * between
    values = (inside - n) / (n * (n - 1)) + (rest - m) / (m * (m - 1)) - 2 * between / (n * m)
    more = int((values[1:] >= values[0] - 1e-12).sum())
    return float(values[0]), (1 + more) / (1 + permutations)


def squared_mmd(source: Array, target: Array) -> float:
    """Unbiased squared MMD with a Gaussian kernel, without the test of :func:`mmd_test`."""
    return mmd_test(source, target, 0)[0]


def gaussian(source: Array, target: Array) -> Array:
    """Gaussian kernel exp(-|x - y|^2 / median) between all samples (N + M, N + M), source first."""
    from scipy.spatial.distance import pdist, squareform

    squared = pdist(np.concatenate([source, target]).astype(np.float64), "sqeuclidean")
    median = float(np.median(squared)) if len(squared) else 0.0
    kernel: Array = squareform(np.exp(-squared / (median if median > 0 else 1.0)))
    np.fill_diagonal(kernel, 1.0)
    return kernel


def coral_distance(source: Array, target: Array) -> float:
    """CORAL distance |C_S - C_T|_F^2 / (4 d^2) of the covariances (over n - 1).

    Sun & Saenko, "Deep CORAL", ECCV Workshops 2016, eq. 1.
    """
    c_source, c_target = (
        np.atleast_2d(np.cov(np.asarray(x, np.float64), rowvar=False)) for x in (source, target)
    )
    return float(((c_source - c_target) ** 2).sum() / (4 * c_source.shape[0] ** 2))


def wasserstein(source: Array, target: Array) -> float:
    """Mean over features of the Wasserstein-1 distance in one dimension, by quantiles."""
    return float(
        _between_quantiles(np.asarray(source, np.float64), np.asarray(target, np.float64)).mean()
    )


def sliced_wasserstein(source: Array, target: Array, seed: int = 0) -> float:
    """Root of the mean squared Wasserstein-1 distance over random directions.

    After Rabin, Peyre, Delon & Bernot, "Wasserstein Barycenter and Its Application to Texture
    Mixing", SSVM 2011, eq. 5.
    """
    directions = np.random.default_rng(seed).standard_normal((source.shape[1], PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(
        np.sqrt((_between_quantiles(source @ directions, target @ directions) ** 2).mean())
    )


def _between_quantiles(source: Array, target: Array) -> Array:
    """Wasserstein-1 distance of each column's two distributions, (d,).

    The mean gap of their quantiles, exact where the sizes are equal.
    """
    if len(source) == len(target):
        return np.abs(np.sort(source, 0) - np.sort(target, 0)).mean(0)
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.abs(np.quantile(source, at, axis=0) - np.quantile(target, at, axis=0)).mean(0)
