"""Reverse validation: source accuracy of a classifier learned from target predictions.

Zhong, Fan, Yang, Verscheure & Ren, "Cross Validation Framework to Choose amongst Models and
Datasets for Transfer Learning", ECML PKDD 2010; Ganin et al., "Domain-Adversarial Training of
Neural Networks", JMLR 2016, sec. 5.1.2.

In those papers the reverse classifier is the whole method trained anew, from the target as the
labelled domain to the source. After every epoch that is out of the question: ours is a linear
classifier on the features that the model has by then, so it judges these features and predictions,
not what the method would learn the other way round.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tl_runner.metrics.selection_scores.importance import centre_and_scale

Array = NDArray[np.float64]

RIDGE = 0.1  # against a mean square of 1 of the features


def reverse_accuracy(
    target: Array,
    predicted: NDArray[np.int64],
    source: Array,
    labels: NDArray[np.int64],
    classes: int,
) -> float:
    """Accuracy on the source of a linear classifier learned from target predictions.

    The classifier is ridge regression on one-hot labels, in closed form: W = (X'X + ridge n I)^-1
    X'Y of centred X and Y, all features on one common scale. A class that is never predicted is
    never given; a collapse into one class scores that class's share of the source.

    Args:
        target: features (N, d).
        predicted: the model's classes of them (N,).
        source: features of source validation images (V, d).
        labels: their true classes (V,).
        classes: how many there are.
    """
    centre, scale = centre_and_scale(target)
    x, at = (target - centre) / scale, (source - centre) / scale
    y = np.eye(classes)[predicted]
    shares = y.mean(0)
    n, d = x.shape
    if d <= n:
        weights = np.linalg.solve(x.T @ x + RIDGE * n * np.eye(d), x.T @ (y - shares))
    else:  # the same matrix, by an N x N system
        weights = x.T @ np.linalg.solve(x @ x.T + RIDGE * n * np.eye(n), y - shares)
    scores = at @ weights + shares
    scores[:, shares == 0] = -np.inf
    return float((scores.argmax(1) == labels).mean())
