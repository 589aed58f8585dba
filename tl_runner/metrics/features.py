"""Choice of the features to keep for a small labelled set, by scikit-learn."""

from __future__ import annotations

import numpy as np


def chosen(
    method: str, features: np.ndarray, labels: np.ndarray, keep: int, seed: int
) -> np.ndarray:
    """The features that a classifier of ``labels`` is to see: bool (d,), ``keep`` of them True.

    ``mutual_information``: those that tell most of the class one by one, estimated from nearest
    neighbours (Ross, PLoS ONE 2014). ``l1``: those with the largest weights in a linear classifier
    with an L1 penalty, the strongest that leaves that many (Bi et al., JMLR 2003).

    Args:
        method: one of :data:`METHODS`.
        features: float (N, d).
        labels: int (N,); ``mutual_information`` needs a class with two samples or more.
        keep: at least 1.
        seed: of the estimators.
    """
    d = features.shape[1]
    if keep >= d:
        return np.ones(d, dtype=bool)
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-8)
    scores = METHODS[method](scaled.astype(np.float64), labels, keep, seed)
    found = np.zeros(d, dtype=bool)
    found[np.argsort(-scores, kind="stable")[:keep]] = True
    return found


def _mutual_information(
    features: np.ndarray, labels: np.ndarray, keep: int, seed: int
) -> np.ndarray:
    from sklearn.feature_selection import mutual_info_classif

    neighbours = min(3, int(np.bincount(labels).max()) - 1)
    return mutual_info_classif(features, labels, n_neighbors=neighbours, random_state=seed)


def _l1(features: np.ndarray, labels: np.ndarray, keep: int, seed: int) -> np.ndarray:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    weights = np.zeros(features.shape[1])
    for c in np.logspace(-3, 2, 16):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a ranking needs no last digit
            weights = np.abs(
                LinearSVC(penalty="l1", dual=False, C=c, random_state=seed)
                .fit(features, labels)
                .coef_
            ).sum(0)
        if (weights > 0).sum() >= keep:
            break
    return weights


METHODS = {"l1": _l1, "mutual_information": _mutual_information}
