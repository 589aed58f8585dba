"""``embeddings.npz``: features of test images of both domains before and after adaptation.

Kept for pictures, and to measure the similarity of the two.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tl_runner.record.run_folder import RunFolder
from tl_runner.similarity.a_distance import proxy_a_distance

FILE = "embeddings.npz"
WHEN = ("before", "after")


def keep(folder: RunFolder, when: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write features, probabilities and labels of a time into ``embeddings.npz``.

    ``{when}/{domain}`` float16 (N, d), the classifier's ``{when}/target/said`` (N, K) and
    ``{domain}/labels`` int64 (N,).

    What ``before`` wrote stays beside ``after``.
    """
    before = load(folder) if when == "after" else {}
    if arrays:
        named = {
            name if name.endswith("/labels") else f"{when}/{name}": array
            for name, array in arrays.items()
        }
        folder.arrays(FILE, {**before, **named})


def load(folder: RunFolder) -> dict[str, np.ndarray]:
    """Arrays of ``embeddings.npz``; empty if there is none."""
    if not (folder.path / FILE).exists():
        return {}
    with np.load(folder.path / FILE, allow_pickle=False) as stored:
        return dict(stored)


def pair(arrays: Mapping[str, np.ndarray], when: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Source and target features of a time, (N, d) and (M, d).

    None unless both were kept, are of one length and finite in half precision.
    """
    source, target = (arrays.get(f"{when}/{domain}") for domain in ("source", "target"))
    if (
        source is None
        or target is None
        or source.shape[1:] != target.shape[1:]
        or min(len(source), len(target)) < 2
    ):
        return None
    return (source, target) if np.isfinite(source).all() and np.isfinite(target).all() else None


def a_distances(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Proxy A-distance of the two domains ``before`` and ``after`` adaptation.

    The halves are the same for every run.
    """
    return {
        when: round(proxy_a_distance(*domains), 4)
        for when in WHEN
        if (domains := pair(arrays, when))
    }
