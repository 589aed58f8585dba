"""Report of a run's predictions on one labelled split.

Scores with 95 % intervals, values by class, and the confusion matrix.

Point estimates are scikit-learn's, the calibration error is ours. What is undefined is None and
never NaN, with a note that says why. NumPy in, plain Python out, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from tl_runner.errors import human_list
from tl_runner.metrics import bootstrap

Array = NDArray
Report = dict[str, Any]

BINS = 15  # of the calibration error, as Guo et al. have it
NAMED = 10  # classes that a note names
RANKING_RESAMPLES = 200  # the ranking metrics cost a sort a class
RANKING_LIMIT = 600_000  # probabilities of a split, above which they get no interval


def classification(
    probabilities: Array,
    labels: Array,
    *,
    ranking: Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Report:
    """Metrics of class probabilities (N, K), K >= 2, against labels (N,) in 0..K-1.

    The prediction is the likeliest class.

    Args:
        ranking: (N, K), what AUC and average precision order samples by, the larger the likelier;
            None: the probabilities.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        names: of the K classes, for the notes; None: their numbers.

    Returns:
        ``metrics``: {name: float or None}: accuracy, balanced_accuracy, precision, recall and f1
            each ``_macro``, ``_micro``
        and ``_weighted``, auc_macro (one class against the rest), average_precision_macro, ece,
            log_loss (nats).
        ``intervals``: {name: [low, high]} of the same, 95 % percentile bootstrap over samples,
            decided by ``seed``.
        ``per_class``: precision, recall, f1, auc, average_precision, support, each a list of K.
        ``confusion``: counts (K, K), row the true class, column the predicted one.
        ``notes``: {name: why a metric is None or limited}.

    What happens at the edges, as in scikit-learn where it has a rule:

    - precision of a class that is never predicted, recall of one that has no sample, and F1 of one
      that is neither are 0, and count as such in the means over all K;
    - balanced accuracy is the mean recall of the classes that have samples;
    - AUC and average precision of a class need samples of it and of others: else None, and left out
      of the macro mean;
    - log loss is computed in float64 and clips a probability of 0 to 2.2e-16 (scikit-learn clips
      float32 at 1.2e-7).
    """
    n, k = probabilities.shape
    classes, predicted = np.arange(k), probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, labels=classes)
    support, drawn = confusion.sum(1), confusion.sum(0)
    present = np.flatnonzero(support)
    per_class, averages = _precision_recall_f1(labels, predicted, k)
    scores = probabilities if ranking is None else ranking
    ranked = _ranking(scores, labels, present)
    true_probability = probabilities[np.arange(n), labels].astype(np.float64)
    metrics = {
        "accuracy": float(accuracy_score(labels, predicted)),
        # balanced_accuracy_score is this, and warns of predicted classes that have no sample
        "balanced_accuracy": float(
            recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
        ),
        **averages,
        "auc_macro": _mean(ranked["auc"]),
        "average_precision_macro": _mean(ranked["average_precision"]),
        "ece": calibration_error(probabilities, labels),
        # of the true class against all others: the same sum as over K columns, without the N x K
        # table of 0 and 1
        "log_loss": float(log_loss(np.ones(n, dtype=np.int64), true_probability, labels=[0, 1])),
    }
    named = np.array(list(names if names is not None else range(k)), dtype=object)
    notes = _notes(named[support == 0], named[drawn == 0], named[present])
    generator = np.random.default_rng(seed)
    intervals = _classification_intervals(probabilities, labels, confusion, resamples, generator)
    if probabilities.size <= RANKING_LIMIT:
        intervals |= _ranking_intervals(
            scores, labels, min(resamples, RANKING_RESAMPLES), generator
        )
    else:
        for name in ("auc_macro", "average_precision_macro"):
            notes.setdefault(name, []).append(
                f"no interval: {n:,} samples of {k:,} classes would take too long to rank again "
                "and again."
            )
    return {
        "metrics": metrics,
        "intervals": {name: intervals[name] for name in metrics if name in intervals},
        "per_class": {**per_class, **ranked, "support": support.tolist()},
        "confusion": confusion.tolist(),
        "notes": {name: " ".join(sentences) for name, sentences in notes.items()},
    }


def regression(predicted: Array, y: Array, *, resamples: int = 1000, seed: int = 0) -> Report:
    """Metrics rmse, mae and r2 of predictions (N,) against targets (N,).

    With their ``intervals`` and ``notes``.

    R2 is None for one sample and for targets that are all the same: there is no variance to
    explain.
    """
    predicted, y = predicted.astype(np.float64), y.astype(np.float64)
    constant = bool((y == y[0]).all())
    metrics = {
        "rmse": float(root_mean_squared_error(y, predicted)),
        "mae": float(mean_absolute_error(y, predicted)),
        "r2": None if constant else float(r2_score(y, predicted)),
    }
    generator = np.random.default_rng(seed)
    parts = [
        bootstrap.of_regression(bootstrap.draw(generator, rows, len(y)), predicted, y)
        for rows in bootstrap.chunks(resamples, len(y))
    ]
    values = {
        name: array for name, array in bootstrap.collect(parts).items() if metrics[name] is not None
    }
    what = "there is one sample only" if len(y) == 1 else "all targets are the same"
    return {
        "metrics": metrics,
        "intervals": bootstrap.intervals(values),
        "notes": {"r2": f"undefined: {what}."} if constant else {},
    }


def reliability(probabilities: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Samples, accuracy and mean confidence of each bin of the top probability, (15,) each.

    Bins are of equal width; an empty one has 0.

    A bin holds its upper edge: ((m - 1) / 15, m / 15].
    """
    confidence, bins = _confidence(probabilities)
    hits = probabilities.argmax(1) == labels
    counts = np.bincount(bins, minlength=BINS)
    at_least_one = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(bins, hits, BINS) / at_least_one,
        np.bincount(bins, confidence, BINS) / at_least_one,
    )


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Expected calibration error.

    Mean gap of accuracy and confidence over the bins, weighted by their samples.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    counts, accuracy, confidence = reliability(probabilities, labels)
    return float((counts * np.abs(accuracy - confidence)).sum() / len(labels))


def _confidence(probabilities: Array) -> tuple[Array, Array]:
    """The top probability, float64 (N,), and its bin (N,)."""
    confidence = probabilities.max(1).astype(np.float64)
    return confidence, np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)


def _precision_recall_f1(
    labels: Array, predicted: Array, k: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Precision, recall and F1 by class, and averaged in three ways."""
    names = ("precision", "recall", "f1")
    by = {
        average: precision_recall_fscore_support(
            labels, predicted, labels=np.arange(k), average=average, zero_division=0
        )[:3]
        for average in (None, "macro", "micro", "weighted")
    }
    per_class = {name: values.tolist() for name, values in zip(names, by[None], strict=True)}
    averages = ("macro", "micro", "weighted")
    return per_class, {
        f"{name}_{average}": float(by[average][i])
        for i, name in enumerate(names)
        for average in averages
    }


def _ranking(scores: Array, labels: Array, present: Array) -> dict[str, list[float | None]]:
    """AUC and average precision of each class against the rest; None without samples of both."""
    k = scores.shape[1]
    values: dict[str, list[float | None]] = {"auc": [None] * k, "average_precision": [None] * k}
    for c in present if len(present) > 1 else ():
        values["auc"][c] = float(roc_auc_score(labels == c, scores[:, c]))
        values["average_precision"][c] = float(average_precision_score(labels == c, scores[:, c]))
    return values


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _classification_intervals(
    probabilities: Array,
    labels: Array,
    confusion: Array,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, list[float]]:
    """Intervals of every metric but the ranking ones."""
    n, k = probabilities.shape
    true, predicted = np.nonzero(confusion)
    # cells drawn at random are distributed as the cells of samples drawn at random
    shares = confusion[true, predicted] / n
    matrices = [
        bootstrap.of_confusion(generator.multinomial(n, shares, size=rows), true, predicted, k)
        for rows in bootstrap.chunks(resamples, max(len(true), k))
    ]
    confidence, bins = _confidence(probabilities)
    gaps = confidence - (probabilities.argmax(1) == labels)
    smallest = np.finfo(np.float64).eps  # as in scikit-learn's log_loss
    losses = -np.log(
        np.clip(probabilities[np.arange(n), labels].astype(np.float64), smallest, 1 - smallest)
    )
    samples = [
        bootstrap.of_calibration(bootstrap.draw(generator, rows, n), gaps, bins, losses)
        for rows in bootstrap.chunks(resamples, n)
    ]
    return bootstrap.intervals(bootstrap.collect(matrices) | bootstrap.collect(samples))


def _ranking_intervals(
    scores: Array, labels: Array, resamples: int, generator: np.random.Generator
) -> dict[str, list[float]]:
    n = len(labels)
    parts = [
        bootstrap.of_rankings(
            bootstrap.draw(generator, rows, n).T.astype(np.int32, order="C"), scores, labels
        )
        for rows in bootstrap.chunks(resamples, n)
    ]
    return bootstrap.intervals(bootstrap.collect(parts))


def _notes(absent: Array, unpredicted: Array, present: Array) -> dict[str, list[str]]:
    """Notes on each metric where classes have no sample or are never predicted."""
    notes: dict[str, list[str]] = {}

    def note(sentence: str, *names: str) -> None:
        for name in names:
            notes.setdefault(name, []).append(sentence)

    ranking = ("auc_macro", "average_precision_macro")
    if len(present) == 1:
        note(
            f"undefined: every sample is of class {present[0]}, and a ranking needs others.",
            *ranking,
        )
    elif len(absent):
        note(
            f"no sample of class {human_list(absent, NAMED)}: left out of the macro mean.", *ranking
        )
    if len(absent):
        note(
            f"no sample of class {human_list(absent, NAMED)}: left out of the mean.",
            "balanced_accuracy",
        )
        note(
            f"no sample of class {human_list(absent, NAMED)}: recall and F1 count as 0 in the "
            "macro mean.",
            "recall_macro",
            "f1_macro",
        )
    if len(unpredicted):
        note(
            f"never predicted: class {human_list(unpredicted, NAMED)}; precision counts as 0.",
            "precision_macro",
            "precision_weighted",
        )
    return notes
