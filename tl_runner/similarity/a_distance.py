"""Proxy A-distance: how well a linear classifier tells two domains apart.

Ben-David, Blitzer, Crammer & Pereira, "Analysis of Representations for Domain Adaptation", NIPS
2006, sec. 4 (the printed proceedings are of 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

STRENGTH = 0.01  # inverse regularisation, of features whose root mean square is 1


def proxy_a_distance(source: Array, target: Array, seed: int = 0) -> float:
    """Proxy A-distance d = 2 (1 - 2 error), within [0, 2].

    It is 0 where the domains cannot be told apart and 2 where no sample is mistaken. The error is
    that of a logistic regression on the half of each domain that it was not fitted on, the mean of
    the two domains' (so that a larger domain weighs no more). An error on the samples that were
    fitted would call any two small sets of many features far apart.

    Args:
        source, target: features (N, d), (M, d); N and M at least 2.
        seed: draws the halves.
    """
    from sklearn.linear_model import LogisticRegression

    from tl_runner.metrics.selection_scores.importance import centre_and_scale

    draw = np.random.default_rng(seed)
    (fit_s, held_s), (fit_t, held_t) = (
        halves(np.asarray(x, dtype=np.float64), draw) for x in (source, target)
    )
    x, y = np.concatenate([fit_s, fit_t]), np.arange(len(fit_s) + len(fit_t)) >= len(fit_s)
    centre, scale = centre_and_scale(x)
    classifier = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000).fit(
        (x - centre) / scale, y
    )
    mistaken = (
        classifier.predict((held_s - centre) / scale).mean()
        + (~classifier.predict((held_t - centre) / scale)).mean()
    ) / 2
    return float(np.clip(2 * (1 - 2 * mistaken), 0, 2))


def halves(x: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    """Rows of ``x`` (N, d) in two random halves; the first has floor(N / 2)."""
    order = draw.permutation(len(x))
    return x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
