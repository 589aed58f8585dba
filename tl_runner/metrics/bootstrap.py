"""Percentile bootstrap, vectorised: a metric's values on resamples of the same samples.

A resample draws N of N samples with replacement (Efron & Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13), which is one row of counts: how often each sample was drawn. Every
function here turns counts (R, N) into R values of a metric, so that a thousand resamples are a few
matrix products and no model runs twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray

LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval
CHUNK = 2_000_000  # counts in memory at once


def intervals(values: Mapping[str, Array]) -> dict[str, list[float]]:
    """95 % interval [low, high] of each name's R values.

    A resample in which a metric is undefined (NaN) does not count.
    """
    defined = {name: array[np.isfinite(array)] for name, array in values.items()}
    return {
        name: np.percentile(array, LEVEL).tolist() for name, array in defined.items() if len(array)
    }


def chunks(resamples: int, size: int) -> Iterator[int]:
    """Splits ``resamples`` rows of ``size`` counts into portions that fit :data:`CHUNK`."""
    most = max(1, CHUNK // size)
    for first in range(0, resamples, most):
        yield min(most, resamples - first)


def draw(generator: np.random.Generator, resamples: int, n: int) -> Array:
    """Counts (R, N) int64 of ``n`` samples drawn ``n`` times; every row sums to ``n``."""
    return np.stack(
        [np.bincount(row, minlength=n) for row in generator.integers(n, size=(resamples, n))]
    )


def collect(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Each metric's values of every portion of the resamples, one after the other."""
    return {
        name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})
    }


def of_confusion(counts: Array, true: Array, predicted: Array, classes: int) -> dict[str, Array]:
    """Metrics that the confusion matrix decides, by name, (R,) each.

    Conventions are scikit-learn's: 0 / 0 is 0 in precision, recall and F1.

    Args:
        counts: (R, C), how often each pair (true, predicted) was drawn; a pair may come more than
            once.
        true, predicted: (C,) class indices.
        classes: K.
    """
    member, ones = np.arange(len(true)), np.ones(len(true), dtype=np.int64)
    of_true, of_predicted = (
        csr_array((ones, (member, index)), shape=(len(true), classes))
        for index in (true, predicted)
    )
    support, drawn = counts @ of_true, counts @ of_predicted  # (R, K)
    hits = (counts * (true == predicted)) @ of_true
    recall, precision, f1 = (
        _ratio(hits, support),
        _ratio(hits, drawn),
        _ratio(2 * hits, support + drawn),
    )
    n = support.sum(1)
    values = {
        "accuracy": hits.sum(1) / n,
        "balanced_accuracy": recall.sum(1) / (support > 0).sum(1),
    }
    for name, per_class in (("precision", precision), ("recall", recall), ("f1", f1)):
        values[f"{name}_macro"] = per_class.mean(1)
        values[f"{name}_micro"] = values["accuracy"]
        values[f"{name}_weighted"] = (per_class * support).sum(1) / n
    return values


def of_calibration(counts: Array, gaps: Array, bins: Array, losses: Array) -> dict[str, Array]:
    """ECE and log loss of each resample, (R,) each.

    Args:
        counts: (R, N), how often each sample was drawn.
        gaps: confidence minus correctness of each sample, (N,).
        bins: bin of its confidence, (N,).
        losses: its log loss, (N,).
    """
    in_bin = (bins[:, None] == np.arange(bins.max() + 1)) * gaps[:, None]  # (N, bins)
    sums = counts.astype(np.float64) @ np.column_stack([in_bin, losses]) / counts.shape[1]
    return {"ece": np.abs(sums[:, :-1]).sum(1), "log_loss": sums[:, -1]}


def of_ranking(counts: Array, scores: Array, positive: Array) -> tuple[Array, Array]:
    """ROC AUC and average precision of one class, (R,) each.

    NaN where a resample has only positives or only negatives.

    With the samples in falling order of their score and equal scores in one group, a positive's
    share of the AUC is the negatives ranked below its group plus half of those in it
    (Mann-Whitney), and of the average precision the precision at its group's end. Both need running
    sums of counts at the positives' groups only.

    Args:
        counts: (N, R), a column a resample, which makes each running sum a sum of rows.
        scores: (N,).
        positive: (N,) bool.
    """
    order = np.argsort(-scores, kind="stable")
    falling, places = -scores[order], np.flatnonzero(positive[order])
    starts, ends = (np.searchsorted(falling, falling[places], side) for side in ("left", "right"))
    weights = counts[order[places]]  # (P, R)
    ranked = _running(counts[order])
    running = _running(weights)
    # positives so far
    found, found_above = (
        running[np.searchsorted(places, ends)],
        running[np.searchsorted(places, starts)],
    )
    passed, passed_above = ranked[ends] - found, ranked[starts] - found_above  # negatives likewise
    positives = weights.sum(0)
    negatives = ranked[-1] - positives
    area = (weights * (negatives - (passed + passed_above) / 2)).sum(0)
    precision = (weights * _ratio(found, ranked[ends])).sum(0)
    defined = (positives > 0) & (negatives > 0)
    auc = np.divide(area, positives * negatives, out=np.full(len(area), np.nan), where=defined)
    return auc, np.divide(precision, positives, out=np.full(len(area), np.nan), where=defined)


def of_rankings(counts: Array, scores: Array, labels: Array) -> dict[str, Array]:
    """Macro AUC and average precision of each resample, (R,) each.

    Means over the classes for which a resample has positives and negatives.

    counts (N, R), scores (N, K), the larger the likelier, labels (N,).
    """
    present = np.unique(labels)
    # (K, 2, R)
    found = np.array([of_ranking(counts, scores[:, k], labels == k) for k in present])
    defined = np.isfinite(found).sum(0)
    auc, precision = np.divide(
        np.nansum(found, 0), defined, out=np.full(defined.shape, np.nan), where=defined > 0
    )
    return {"auc_macro": auc, "average_precision_macro": precision}


def of_regression(counts: Array, predicted: Array, y: Array) -> dict[str, Array]:
    """RMSE, MAE and R2 of each resample, (R,) each.

    R2 is NaN where a resample's targets are all the same.

    Args:
        counts: (R, N), how often each sample was drawn.
        predicted, y: predicted and true targets, (N,).
    """
    # R2 does not see the shift; squares of small numbers keep their digits
    error, y = (predicted - y, y - y.mean())
    mse, mae, mean, square = (
        counts @ np.column_stack([error**2, np.abs(error), y, y**2]) / len(y)
    ).T
    variance = square - mean**2
    r2 = 1 - np.divide(
        mse, variance, out=np.full(len(mse), np.nan), where=variance > 1e-12 * square
    )
    return {"rmse": np.sqrt(mse), "mae": mae, "r2": r2}


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _running(counts: Array) -> Array:
    """Sums (N + 1, R) of the first 0, 1 ... N rows."""
    sums = np.zeros((len(counts) + 1, counts.shape[1]), dtype=counts.dtype)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums
