"""Transferability: scores of how well features, or a source classifier, would serve a target.

They read the target's labels and train no network. Higher is better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Labels = NDArray[np.integer]

STEPS, TOLERANCE = 100, 1e-6
TINY = 1e-12
FOLDS = 5


def logme(features: Array, y: Labels) -> float:
    """LogME: log evidence of a linear model of the labels, in nats a sample, mean over classes.

    You, Liu, Wang & Long, "LogME: Practical Assessment of Pre-trained Models for Transfer
    Learning", ICML 2021, eq. 2 and algorithm 1: labels of one class against the rest are Gaussian
    around f^T w with precision beta, w is Gaussian with precision alpha, and both are set to their
    most likely values by a fixed-point iteration. One decomposition serves all classes, of F^T F
    where that is smaller.

    Args:
        features: (N, d). y: classes (N,); those that are not there do not count.
    """
    f = np.asarray(features, np.float64)
    n, d = f.shape
    labels = np.stack([y == c for c in np.unique(y)], 1).astype(np.float64)
    squares, v = np.linalg.eigh(f.T @ f) if n > d else (np.zeros(0), f)
    shares = squares / max(squares.max(initial=0.0), TINY)
    # or the product has lost what is small
    if n > d and not ((shares > 1e-14) & (shares < 1e-9)).any():
        squares = np.where(shares > 1e-12, squares, 0.0)
        z2 = np.divide(
            (v.T @ (f.T @ labels)) ** 2,
            squares[:, None],
            out=np.zeros((d, labels.shape[1])),
            where=squares[:, None] > 0,
        )
    else:
        u, s, _ = np.linalg.svd(f, full_matrices=False)
        squares, z2 = np.where(s > s.max(initial=0.0) * 1e-10, s**2, 0.0), (u.T @ labels) ** 2
    return float(
        np.mean([_evidence(one, of, squares, n, d) for one, of in zip(labels.T, z2.T, strict=True)])
    )


def _evidence(y: Array, z2: Array, squares: Array, n: int, d: int) -> float:
    """Log evidence of one class's labels, in nats a sample.

    Args:
        y: 1 for the class and 0 for the others, (N,).
        z2: squared projections of ``y`` on the features' singular directions.
        squares: squared singular values there.
        n, d: samples and features.
    """
    outside = max(float(y @ y - z2.sum()), 0.0)  # what no feature explains
    alpha = beta = 1.0

    def at(alpha: float, beta: float) -> tuple[float, float]:  # |m|^2 and |F m - y|^2
        denominator = (alpha + beta * squares) ** 2
        return float((beta**2 * squares * z2 / denominator).sum()), float(
            (alpha**2 * z2 / denominator).sum() + outside
        )

    for _ in range(STEPS):
        m2, rest = at(alpha, beta)
        gamma = float((beta * squares / (alpha + beta * squares)).sum())
        new_alpha, new_beta = (
            max(gamma, TINY) / max(m2, TINY),
            max(n - gamma, TINY) / max(rest, TINY),
        )
        close = abs(new_alpha / new_beta - alpha / beta) <= TOLERANCE * alpha / beta
        alpha, beta = new_alpha, new_beta
        if close:
            break
    m2, rest = at(alpha, beta)
    determinant = float(np.log(alpha + beta * squares).sum()) + (d - len(squares)) * np.log(alpha)
    total = (
        n * np.log(beta)
        + d * np.log(alpha)
        - n * np.log(2 * np.pi)
        - beta * rest
        - alpha * m2
        - determinant
    )
    return float(total / (2 * n))


def leep(probabilities: Array, y: Labels) -> float:
    """LEEP: mean log likelihood of the target's labels under a source classifier, in nats.

    The likelihood is P(y | z) averaged over the classifier's z.

    Nguyen, Hassner, Seeger & Archambeau, "LEEP: A New Measure to Evaluate Transferability of
    Learned Representations", ICML 2020, eq. 2.

    Args:
        probabilities: of the source's classes on target samples, (N, Z), rows of sum 1. y: target
            classes (N,).
    """
    p = np.asarray(probabilities, np.float64)
    _, number = np.unique(y, return_inverse=True)
    joint = np.eye(number.max() + 1)[number].T @ p / len(p)  # (Y, Z)
    conditional = joint / np.maximum(joint.sum(0, keepdims=True), TINY)
    return float(np.log(np.maximum(np.einsum("nz,nz->n", p, conditional[number]), TINY)).mean())


def nce(z: Labels, y: Labels) -> float:
    """Negative conditional entropy -H(Y | Z), in nats: how well source classes tell target classes.

    Tran, Nguyen & Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV
    2019, eq. 4 and section 3.

    Args:
        z: the classes that a source's classifier names for target samples, (N,). y: their own (N,).
    """
    joint = np.zeros((z.max() + 1, y.max() + 1))
    np.add.at(joint, (z, y), 1 / len(y))
    conditional = joint / np.maximum(joint.sum(1, keepdims=True), TINY)
    return float((joint * np.log(np.where(joint > 0, conditional, 1.0))).sum())


def h_score(features: Array, y: Labels) -> float:
    """H-score tr(cov(f)^-1 cov(E[f | y])): the features' share that the classes explain.

    Bao, Li, Huang, Zhang, Zheng, Zamir & Guibas, "An Information-Theoretic Approach to
    Transferability in Task Transfer Learning", ICIP 2019, definition 2; at most the smaller of the
    features and the classes less one. A covariance without inverse has its pseudo-inverse. Of as
    many features as samples anything explains everything: NaN.
    """
    f = np.asarray(features, np.float64)
    if f.shape[1] >= len(f) - 1:
        return float("nan")
    f = f - f.mean(0)
    classes, number, counts = np.unique(y, return_inverse=True, return_counts=True)
    means = (np.eye(len(classes))[number].T @ f) / counts[:, None]
    between = (means * (counts / len(f))[:, None]).T @ means
    return float(np.trace(np.linalg.pinv(f.T @ f / len(f), rcond=1e-10, hermitian=True) @ between))


def linear_probe(features: Array, y: Labels, seed: int = 0) -> float:
    """Accuracy of a logistic regression on the features, mean over five folds.

    Of classes with at least five samples; NaN where fewer than two have as many.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    classes, counts = np.unique(y, return_counts=True)
    kept = np.isin(y, classes[counts >= FOLDS])
    f, labels = np.asarray(features, np.float64)[kept], y[kept]
    if len(np.unique(labels)) < 2:
        return float("nan")
    f = (f - f.mean(0)) / max(float(np.sqrt(((f - f.mean(0)) ** 2).mean())), TINY)
    if f.shape[1] > len(f):  # the same up to a rotation, which the regularisation does not see
        u, s, _ = np.linalg.svd(f, full_matrices=False)
        f = u * s
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a score needs no last digit
        tool = LogisticRegression(C=1.0, max_iter=100, tol=1e-3)
        return float(
            cross_val_score(
                tool, f, labels, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
            ).mean()
        )
