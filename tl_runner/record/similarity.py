"""How alike a run's two domains were, and how well its features would have served the target; of
the images whose features it keeps.

The transferability scores read labels of target test images, as the test metrics do: for the
record, and nothing is chosen by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tl_runner.record.embeddings import WHEN, pair
from tl_runner.similarity import distances as domains
from tl_runner.similarity import transferability

PERMUTATIONS = 200
DIGITS = 6


def distances(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Between the domains' features, brought to one scale, ``before`` and ``after``: ``mmd``, its
    ``mmd_p``, ``coral``, ..."""
    found = {}
    for when in WHEN:
        if of := pair(arrays, when):
            source, target = domains.unit_scale(
                *(x.astype(np.float64).reshape(len(x), -1) for x in of)
            )
            mmd, p = domains.mmd_test(source, target, PERMUTATIONS)
            found[when] = rounded(
                {
                    "mmd": mmd,
                    "mmd_p": p,
                    "coral": domains.coral_distance(source, target),
                    "wasserstein": domains.wasserstein(source, target),
                    "sliced_wasserstein": domains.sliced_wasserstein(source, target),
                }
            )
    return found


def transfer(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Of the target's features and labels, and of what the classifier said there, ``before`` and
    ``after``."""
    found: dict[str, dict[str, float]] = {}
    y = arrays.get("target/labels")
    for when in WHEN:
        features, said = (arrays.get(f"{when}/{name}") for name in ("target", "target/said"))
        if (
            y is None
            or features is None
            or y.dtype.kind == "f"
            or len(np.unique(y)) < 2
            or not np.isfinite(features).all()
        ):
            continue
        z = features.astype(np.float64).reshape(len(features), -1)
        scores = {
            "logme": transferability.logme(z, y),
            "h_score": transferability.h_score(z, y),
            "linear_probe": transferability.linear_probe(z, y),
        }
        if said is not None:
            p = said.astype(np.float64) / said.astype(np.float64).sum(1, keepdims=True)
            scores |= {
                "leep": transferability.leep(p, y),
                "nce": transferability.nce(p.argmax(1), y),
            }
        found[when] = rounded(scores)
    return found


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are defined, to a few significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") for name, value in values.items() if math.isfinite(value)
    }
