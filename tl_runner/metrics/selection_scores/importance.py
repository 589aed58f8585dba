"""Deep embedded validation (DEV): the target's risk from labelled source validation images.

These are weighted by a density ratio.

You, Wang, Long & Jordan, "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation",
ICML 2019, sec. 4.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Array = NDArray[np.float64]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse regularisation of the domain classifier
HELD_OUT = 5  # one row in five of a domain judges between them
STEEPEST = 30.0  # log odds beyond which a weight no longer grows: exp of it stays finite


def density_ratio(source: Array, target: Array, at: Array) -> Array:
    """Density ratio w(z) = p_target(z) / p_source(z) at each row of ``at``.

    From a classifier of the two domains; deterministic.

    By Bayes' rule w = n_source / n_target * p(target | z) / p(source | z) (sec. 4.2). The
    classifier is a logistic regression with an L2 penalty, fitted on four fifths of the rows; as in
    the authors' code the held-out fifth chooses the penalty, but by its log loss, since the weights
    are made of probabilities. Features are centred and put on one common scale first.

    Args:
        source, target: features (N, d), (M, d), N and M at least 2.
        at: features (V, d).

    Returns:
        (V,).
    """
    fit_s, held_s, fit_t, held_t = *_apart(source), *_apart(target)
    x, held = np.concatenate([fit_s, fit_t]), np.concatenate([held_s, held_t])
    y, held_y = np.arange(len(x)) >= len(fit_s), np.arange(len(held)) >= len(held_s)
    centre, scale = centre_and_scale(x)
    with warnings.catch_warnings():
        # one that is cut short is still judged on the held-out rows
        warnings.simplefilter("ignore", ConvergenceWarning)
        candidates = [
            LogisticRegression(C=strength).fit((x - centre) / scale, y) for strength in STRENGTHS
        ]
    log_odds = [c.decision_function((held - centre) / scale) for c in candidates]
    losses = [np.logaddexp(0, np.where(held_y, -z, z)).mean() for z in log_odds]
    z = candidates[int(np.argmin(losses))].decision_function((at - centre) / scale)
    return len(fit_s) / len(fit_t) * np.exp(np.clip(z, -STEEPEST, STEEPEST))


def centre_and_scale(x: Array) -> tuple[Array, float]:
    """Mean row of ``x`` (N, d), and the root mean square of what is left without it.

    The latter is 1 where all rows are equal.
    """
    centre = x.mean(0)
    return centre, float((x - centre).std()) if (x != x[0]).any() else 1.0


def _apart(rows: Array) -> tuple[Array, Array]:
    order = np.random.default_rng(0).permutation(len(rows))
    held = max(1, len(rows) // HELD_OUT)
    return rows[order[held:]], rows[order[:held]]


def dev_risk(weights: Array, losses: Array) -> float:
    """Weighted mean loss with a control variate.

    mean(w l) + eta mean(w) - eta, eta = -Cov(w l, w) / Var(w) (sec. 4.3).

    Args:
        weights: density ratios of the validation samples (V,).
        losses: of the classifier on them (V,); the authors' code takes the 0-1 loss, and so does
            the trainer.

    Covariance and variance are the samples' (V - 1). Where the weights do not vary, or of one
    sample, eta is 0.
    """
    weighted = weights * losses
    variance = weights.var(ddof=1) if len(weights) > 1 else 0.0
    eta = -np.cov(weighted, weights)[0, 1] / variance if variance > 0 else 0.0
    return float(weighted.mean() + eta * weights.mean() - eta)
