"""Classifiers and regressions of features, from scikit-learn, each kept as a few tensors and
applied in torch. No method by itself."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEARNERS = ("1nn", "logistic", "svm", "ridge", "mlp")
WEIGHTABLE = ("logistic", "svm", "ridge")  # those that samples of different weights can be given to
FOR_NUMBERS = ("1nn", "svm", "ridge", "mlp")  # those that can be asked for a number
HIDDEN = 100  # units of the multilayer perceptron
NEVER = -1e4  # the logit of a class that no sample is of
# of the mean squared length, a squared distance between rows that are the same, but for rounding
SAME = 1e-10
CHUNK = 2048  # rows whose distances to all points are held at once
State = Mapping[str, Tensor]


def learn(
    kind: str,
    x: Tensor,
    y: Tensor,
    classes: int,
    strength: float,
    weights: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Fit a classifier, or to numbers the regression of the same kind.

    Linear ones and the perceptron see the features centred and, all by one factor, brought to a
    mean square of 1, so that ``strength`` means the same whatever the features' units; so are
    numbers.

    Args:
        kind: one of :data:`LEARNERS`, for numbers of :data:`FOR_NUMBERS`; ``svm`` is linear, one
            class against the rest.
        x, y: features (N, d) and classes (N,), or numbers, floating-point (N,).
        classes: K; some may have no sample. 0 for numbers.
        strength: C, the inverse of the regularisation; for ``ridge`` and ``mlp`` 1 / alpha. Not for
            ``1nn``.
        weights: of the samples, (N,), their mean 1; for :data:`WEIGHTABLE` alone. None: all 1.
        seed: of what the learner draws.

    Returns:
        What :func:`logits` needs.
    """
    # liblinear forgets a class that weighs nothing
    if weights is not None and bool((weights <= 0).any()):
        x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
    if kind == "1nn":
        return {"points": x, "labels": y, "scale": nearest_distance(x)}
    centre = x.mean(0)
    scale = (x - centre).square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    features, labels = ((x - centre) / scale).cpu().double().numpy(), y.cpu().numpy()
    weighed = None if weights is None else weights.cpu().double().numpy()
    if y.is_floating_point():
        return _named(_numbers(kind, features, labels, strength, weighed, seed), centre, scale)
    present = np.unique(labels)
    if len(present) == 1:  # nothing to tell apart
        certain = torch.full((classes,), NEVER, dtype=x.dtype)
        certain[int(present[0])] = 0.0
        return {"weight": torch.zeros(classes, x.shape[1], dtype=x.dtype), "bias": certain}
    mlp = kind == "mlp"
    layers = (
        _perceptron(features, labels, strength, seed)
        if mlp
        else [_linear(kind, features, labels, strength, weighed, seed)]
    )
    *inner, (last, bias) = layers
    # one row says how far from the first class to the second
    if len(present) == 2 and len(last) == 1:
        last, bias = np.concatenate([-last, last]) / 2, np.concatenate([-bias, bias]) / 2
    every, offsets = np.zeros((classes, last.shape[1])), np.full(classes, NEVER)
    every[present], offsets[present] = last, bias
    return _named([*inner, (every, offsets)], centre, scale)


def _named(layers: list[Any], centre: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Layers (weight, bias) for centred features, one or two, as tensors for the features as they
    are."""
    (first, offset), *rest = layers
    centre_, scale_ = centre.cpu().double().numpy(), float(scale)
    # the centring is part of the first layer
    found = [(first / scale_, offset - first @ (centre_ / scale_)), *rest]
    names = ["hidden_", ""][-len(found) :]
    return {
        f"{name}{part}": torch.from_numpy(np.ascontiguousarray(array)).to(centre.dtype)
        for name, layer in zip(names, found, strict=True)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }


def logits(state: State, x: Tensor, classes: int) -> Tensor:
    """(B, K) of features (B, d), by what :func:`learn` gave for K classes; for numbers these, (B,
    1).

    For ``1nn`` these are how much farther each class's nearest sample is than the nearest of all,
    negative squared distances in units of the mean one between neighbours.
    """
    if "points" in state:
        labels = state["labels"]
        numbers, found = labels.is_floating_point(), []
        for some in [x] if torch.compiler.is_exporting() else x.split(CHUNK):
            squared = squared_distances(some, state["points"])
            if numbers:
                found.append(labels[squared.argmin(1), None])
                continue
            nearest = squared.new_full((len(some), classes), torch.inf).scatter_reduce(
                1, labels.expand(len(some), -1), squared, "amin"
            )
            found.append(
                ((nearest.amin(1, keepdim=True) - nearest) / state["scale"]).clamp_min(NEVER)
            )
        return torch.cat(found)
    if "hidden_weight" in state:
        x = torch.relu(x @ state["hidden_weight"].T + state["hidden_bias"])
    return x @ state["weight"].T + state["bias"]


def nearest_distance(x: Tensor) -> Tensor:
    """The mean squared distance of a row of x (N, d) to the nearest one that differs from it;
    positive."""
    some = x[torch.arange(min(len(x), CHUNK), device=x.device) * len(x) // min(len(x), CHUNK)]
    squared = squared_distances(some, x)
    nearest = squared.masked_fill_(
        squared <= SAME * (x - x.mean(0)).square().sum(1).mean(), torch.inf
    ).amin(1)
    apart = nearest[nearest.isfinite()]
    return apart.mean() if len(apart) else torch.ones((), dtype=x.dtype, device=x.device)


def squared_distances(x: Tensor, points: Tensor) -> Tensor:
    """(B, P) of rows (B, d) and (P, d), by one product of matrices of centred rows, of which less
    is lost to rounding."""
    middle = points.mean(0)
    a, b = x - middle, points - middle
    return (
        torch.addmm(b.square().sum(1)[None], a, b.T, alpha=-2)
        .add_(a.square().sum(1)[:, None])
        .clamp_min_(0)
    )


def _linear(
    kind: str, x: np.ndarray, y: np.ndarray, strength: float, weights: np.ndarray | None, seed: int
) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    tools = {
        "logistic": lambda: LogisticRegression(C=strength, max_iter=1000),
        "svm": lambda: LinearSVC(C=strength, max_iter=10_000, random_state=seed),
        "ridge": lambda: RidgeClassifier(alpha=1 / strength),
    }
    with warnings.catch_warnings():
        # its length is fixed: as many steps as there are
        warnings.simplefilter("ignore", ConvergenceWarning)
        tool = tools[kind]().fit(x, y, sample_weight=weights)
    return np.atleast_2d(tool.coef_), np.atleast_1d(tool.intercept_)


def _numbers(
    kind: str, x: np.ndarray, y: np.ndarray, strength: float, weights: np.ndarray | None, seed: int
) -> list[Any]:
    """The layers of a regression, fitted to numbers of mean 0 and deviation 1."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import LinearSVR

    y = y.astype(np.float64)
    middle, spread = float(np.average(y, weights=weights)), float(y.std()) or 1.0
    target = (y - middle) / spread
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if kind == "mlp":
            net = MLPRegressor(
                hidden_layer_sizes=(HIDDEN,), alpha=1e-4 / strength, random_state=seed, max_iter=100
            ).fit(x, target)
            layers = [(w.T, b) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]
        else:
            tool = (
                Ridge(alpha=1 / strength)
                if kind == "ridge"
                else LinearSVR(C=strength, max_iter=10_000, random_state=seed)
            )
            tool.fit(x, target, sample_weight=weights)
            layers = [(np.atleast_2d(tool.coef_), np.atleast_1d(tool.intercept_))]
    *inner, (last, bias) = layers
    return [*inner, (last * spread, bias * spread + middle)]


def _perceptron(x: np.ndarray, y: np.ndarray, strength: float, seed: int) -> list[Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its length is fixed: a hundred passes
        tool = MLPClassifier((HIDDEN,), alpha=1e-4 / strength, random_state=seed, max_iter=100).fit(
            x, y
        )
    return [(w.T, b) for w, b in zip(tool.coefs_, tool.intercepts_, strict=True)]
