"""t-SNE of two domains in one picture.

van der Maaten & Hinton, "Visualizing Data using t-SNE", JMLR 2008.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POINTS = 150  # of each domain in a picture
LEAST = 5


def subsample(n: int, m: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that a picture shows of ``n`` source and ``m`` target samples.

    The same for every pair of sizes.
    """
    draw = np.random.default_rng(0)
    source, target = (np.sort(draw.permutation(size)[:POINTS]) for size in (n, m))
    return source, target


def embed(source: NDArray, target: NDArray) -> tuple[NDArray, NDArray] | None:
    """Points (n, 2), (m, 2) of source and target features (n, d), (m, d) in one plane.

    None where there is nothing to see.
    """
    if (
        min(len(source), len(target)) < LEAST
        or source.ndim != 2
        or source.shape[1] < 2
        or source.shape[1:] != target.shape[1:]
    ):
        return None
    both = np.concatenate([source, target]).astype(np.float32)
    if not np.isfinite(both).all() or not both.std():
        return None
    points = tsne(both.tobytes(), len(both))
    return points[: len(source)], points[len(source) :]


@lru_cache(maxsize=16)
def tsne(features: bytes, n: int) -> NDArray:
    """t-SNE (n, 2) of float32 features (n, d), computed once for runs that share a pretraining."""
    from sklearn.manifold import TSNE

    # for so few points the exact gradient is several times faster than the tree's
    tool = TSNE(perplexity=min(30.0, n / 4), max_iter=500, random_state=0, method="exact")
    return tool.fit_transform(np.frombuffer(features, dtype=np.float32).reshape(n, -1))
