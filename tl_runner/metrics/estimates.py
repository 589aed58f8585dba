"""Estimates of a classifier's accuracy on a domain without labels, from its confidences there.

Both compare them with those on labelled samples of another domain, the source's validation images,
and hold as far as confidence means there what it means here. Adaptation that trains for sure
predictions on the target breaks that; ``docs/selection.md`` has how far they were off, by method.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray
Estimator = Callable[[Array, Array, Array], float]

RESAMPLES = 200
DIGITS = 6


def atc(source: Array, hits: Array, target: Array) -> float:
    """Average thresholded confidence: the share of target samples that are surer than a threshold.

    The threshold is the confidence below which as large a share of the source's samples lies as it
    gets wrong: Garg, Balakrishnan, Lipton, Neyshabur & Sedghi, "Leveraging Unlabeled Data to
    Predict Out-of-Distribution Performance", ICLR 2022, eq. 1-2, with the top probability as score.
    Samples as sure as the threshold count in the share that the source has of them.

    Args:
        source, target: the top probability of each sample, (N,) and (M,).
        hits: whether the source's are right, bool (N,).
    """
    order = np.sort(source)
    wrong = int(len(hits) - hits.sum())
    if wrong == len(order):
        return float((target > order[-1]).mean())
    threshold = order[wrong]
    ties = order == threshold
    right_of_ties = float((np.arange(len(order))[ties] >= wrong).mean())
    return float((target > threshold).mean() + right_of_ties * (target == threshold).mean())


def doc(source: Array, hits: Array, target: Array) -> float:
    """Difference of confidences: the source's accuracy, less what the mean confidence lost.

    Guillory, Shankar, Ebrahimi, Darrell & Schmidt, "Predicting with Confidence on Unseen
    Distributions", ICCV 2021, section 3.2; kept in [0, 1]. Arguments as :func:`atc`'s.
    """
    return float(np.clip(hits.mean() - (source.mean() - target.mean()), 0.0, 1.0))


ESTIMATORS: dict[str, Estimator] = {"atc": atc, "doc": doc}


def estimates(
    source: Array, labels: Array, target: Array, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Every estimate of the accuracy on the target, and its 95 % percentile bootstrap interval.

    Samples of both domains are drawn anew. The interval is of chance alone: it does not know
    whether confidence means on the target what it means on the source.

    Args:
        source, target: probabilities of the classes, (N, K) and (M, K).
        labels: of the source's samples, (N,).
        seed: decides the resamples.

    Returns:
        (values, intervals) by name, each a share of 1.
    """
    sure, hits = source.max(1).astype(np.float64), source.argmax(1) == labels
    there = target.max(1).astype(np.float64)
    draw = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for _ in range(resamples):
        rows, others = (draw.integers(len(x), size=len(x)) for x in (sure, there))
        for name, estimate in ESTIMATORS.items():
            drawn[name].append(estimate(sure[rows], hits[rows], there[others]))
    values = {name: round(fn(sure, hits, there), DIGITS) for name, fn in ESTIMATORS.items()}
    intervals = {
        name: [round(float(end), DIGITS) for end in np.percentile(all_of, (2.5, 97.5))]
        for name, all_of in drawn.items()
    }
    return values, intervals
