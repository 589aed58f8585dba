"""Similarity of a run's two domains, and how well its features would have served the target.

Measured on the test images whose features the run keeps. The transferability scores read labels of
target test images, as the test metrics do: for the record, and nothing is chosen by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tl_runner.record.embeddings import WHEN, pair
from tl_runner.similarity import distances as domains
from tl_runner.similarity.measures import DISTANCES, FEATURES, MEASURES, MMD_P, inputs

PERMUTATIONS = 200
DIGITS = 6


def distances(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Distances of the domains ``before`` and ``after`` transfer, of features on one scale.

    Those are ``mmd`` with its ``mmd_p``, and every other measure of the section ``distances``.
    """
    found = {}
    for when in WHEN:
        if of := pair(arrays, when):
            source, target = domains.unit_scale(
                *(x.astype(np.float64).reshape(len(x), -1) for x in of)
            )
            mmd, p = domains.mmd_test(source, target, PERMUTATIONS)
            others = {
                measure.name: measure.compute(source, target)
                for measure in MEASURES
                if measure.kind == DISTANCES and not measure.section and measure.name != "mmd"
            }
            found[when] = rounded({"mmd": mmd, MMD_P: p} | others)
    return found


def transfer(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Transferability ``before`` and ``after`` transfer, of the target's features and labels.

    Measures that read the classifier's probabilities are left out where these were not kept.
    """
    found: dict[str, dict[str, float]] = {}
    y = arrays.get("target/labels")
    for when in WHEN:
        features, kept = (arrays.get(f"{when}/{name}") for name in ("target", "target/said"))
        if (
            y is None
            or features is None
            or y.dtype.kind == "f"
            or len(np.unique(y)) < 2
            or not np.isfinite(features).all()
        ):
            continue
        z = features.astype(np.float64).reshape(len(features), -1)
        p = None
        if kept is not None:
            p = kept.astype(np.float64) / kept.astype(np.float64).sum(1, keepdims=True)
        found[when] = rounded(
            {
                measure.name: measure.compute(inputs(measure, z, p), y)
                for measure in MEASURES
                if measure.needs_labels and (measure.reads == FEATURES or p is not None)
            }
        )
    return found


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """The values that are defined, to a few significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") for name, value in values.items() if math.isfinite(value)
    }
