"""Classifiers and regressions of features: fitted by scikit-learn, kept and applied as tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tl_runner.errors import one_of

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
    """The tensors of a classifier fitted to classes, or of a regression fitted to numbers.

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
        seed: of the learner's own draws.

    Returns:
        The tensors that :func:`logits` needs, by name.

    Raises:
        ConfigError: there is no such learner, or it cannot be fitted to numbers.
    """
    one_of("method.learner", kind, FOR_NUMBERS if y.is_floating_point() else LEARNERS)
    # liblinear forgets a class that weighs nothing
    if weights is not None and bool((weights <= 0).any()):
        x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
    if kind == "1nn":
        return {"points": x, "labels": y, "scale": nearest_distance(x)}
    centre = x.mean(0)
    scale = (x - centre).square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    features, labels = ((x - centre) / scale).cpu().double().numpy(), y.cpu().numpy()
    sample_weight = None if weights is None else weights.cpu().double().numpy()
    if y.is_floating_point():
        layers = _regression(kind, features, labels, strength, sample_weight, seed)
        return _as_tensors(layers, centre, scale)
    present = np.unique(labels)
    if len(present) == 1:  # nothing to tell apart
        certain = torch.full((classes,), NEVER, dtype=x.dtype)
        certain[int(present[0])] = 0.0
        return {"weight": torch.zeros(classes, x.shape[1], dtype=x.dtype), "bias": certain}
    if kind == "mlp":
        layers = _perceptron(features, labels, strength, seed)
    else:
        layers = [_linear(kind, features, labels, strength, sample_weight, seed)]
    *inner, (last, bias) = layers
    # one row says how far from the first class to the second
    if len(present) == 2 and len(last) == 1:
        last, bias = np.concatenate([-last, last]) / 2, np.concatenate([-bias, bias]) / 2
    every, offsets = np.zeros((classes, last.shape[1])), np.full(classes, NEVER)
    every[present], offsets[present] = last, bias
    return _as_tensors([*inner, (every, offsets)], centre, scale)


def _as_tensors(layers: list[Any], centre: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Layers (weight, bias) for centred and scaled features, one or two, as tensors for the
    features as they are."""
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


# ---- predictions


def logits(state: State, x: Tensor, classes: int) -> Tensor:
    """Logits (B, K), or numbers (B, 1), of features (B, d), by the tensors of :func:`learn`."""
    if "points" in state:
        parts = [x] if torch.compiler.is_exporting() else x.split(CHUNK)
        return torch.cat([_nearest(state, part, classes) for part in parts])
    if "hidden_weight" in state:
        x = torch.relu(x @ state["hidden_weight"].T + state["hidden_bias"])
    return x @ state["weight"].T + state["bias"]


def _nearest(state: State, x: Tensor, classes: int) -> Tensor:
    """Logits (B, K) by nearest neighbours, or the nearest one's number (B, 1).

    A logit is how much farther the class's nearest sample is than the nearest of all, as a negative
    squared distance in units of the mean one between neighbours.
    """
    labels, squared = state["labels"], squared_distances(x, state["points"])
    if labels.is_floating_point():
        return labels[squared.argmin(1), None]
    nearest = squared.new_full((len(x), classes), torch.inf).scatter_reduce(
        1, labels.expand(len(x), -1), squared, "amin"
    )
    return ((nearest.amin(1, keepdim=True) - nearest) / state["scale"]).clamp_min(NEVER)


# ---- distances


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
    """Squared distances (B, P) between rows (B, d) and (P, d).

    By one product of matrices of centred rows, of which less is lost to rounding.
    """
    middle = points.mean(0)
    a, b = x - middle, points - middle
    return (
        torch.addmm(b.square().sum(1)[None], a, b.T, alpha=-2)
        .add_(a.square().sum(1)[:, None])
        .clamp_min_(0)
    )


# ---- fits by scikit-learn, each a list of layers (weight, bias)


def _linear(
    kind: str, x: np.ndarray, y: np.ndarray, strength: float, weights: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The layer of a linear classifier, (K, d) and (K,), or of two classes (1, d) and (1,)."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    make = {
        "logistic": lambda: LogisticRegression(C=strength, max_iter=1000),
        "svm": lambda: LinearSVC(C=strength, max_iter=10_000, random_state=seed),
        "ridge": lambda: RidgeClassifier(alpha=1 / strength),
    }
    tool = _fit(make[kind](), x, y, sample_weight=weights)
    return np.atleast_2d(tool.coef_), np.atleast_1d(tool.intercept_)


def _perceptron(x: np.ndarray, y: np.ndarray, strength: float, seed: int) -> list[Any]:
    """The layers of a classifier with one hidden layer."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier((HIDDEN,), alpha=1e-4 / strength, random_state=seed, max_iter=100)
    return _layers(_fit(net, x, y))


def _regression(
    kind: str, x: np.ndarray, y: np.ndarray, strength: float, weights: np.ndarray | None, seed: int
) -> list[Any]:
    """The layers of a regression, fitted to numbers of mean 0 and deviation 1."""
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import LinearSVR

    y = y.astype(np.float64)
    middle, spread = float(np.average(y, weights=weights)), float(y.std()) or 1.0
    target = (y - middle) / spread
    if kind == "mlp":
        net = MLPRegressor(
            hidden_layer_sizes=(HIDDEN,), alpha=1e-4 / strength, random_state=seed, max_iter=100
        )
        layers = _layers(_fit(net, x, target))
    else:
        make = {
            "svm": lambda: LinearSVR(C=strength, max_iter=10_000, random_state=seed),
            "ridge": lambda: Ridge(alpha=1 / strength),
        }
        tool = _fit(make[kind](), x, target, sample_weight=weights)
        layers = [(np.atleast_2d(tool.coef_), np.atleast_1d(tool.intercept_))]
    *inner, (last, bias) = layers
    return [*inner, (last * spread, bias * spread + middle)]


def _layers(net: Any) -> list[Any]:
    return [(w.T, b) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]


def _fit(tool: Any, x: np.ndarray, y: np.ndarray, **more: Any) -> Any:
    """A fitted tool of scikit-learn; its length is fixed, so that it need not have converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return tool.fit(x, y, **more)
