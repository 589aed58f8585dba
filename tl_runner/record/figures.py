"""Figures of a run as PNG: confusion matrix, ROC, reliability diagram, features of both domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from tl_runner.metrics import evaluation_report as report
from tl_runner.record.curves import COLOURS
from tl_runner.record.embeddings import WHEN, a_distances, pair
from tl_runner.similarity import tsne

Array = NDArray
NAMED = 10  # classes with a curve of their own


def numbers(predicted: Array, y: Array, file: Path, title: str) -> None:
    """Predicted numbers (N,) against the true ones (N,)."""
    low, high = float(min(predicted.min(), y.min())), float(max(predicted.max(), y.max()))
    figure, axis = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
    axis.plot([low, high], [low, high], color="0.6", linewidth=1)
    axis.plot(y, predicted, "o", color=COLOURS[0], markersize=3, alpha=0.5)
    axis.set(xlabel="true", ylabel="predicted", aspect="equal")
    axis.set_title(title, fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def confusion(counts: Array, classes: Sequence[str], file: Path, title: str) -> None:
    """Confusion matrix of counts (K, K): rows are the true classes, columns the predicted ones.

    Shade is the share of the row.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.8, 0.5 * len(classes)), 16)
    figure, axis = plt.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 32:  # more names would lie on top of each other
        axis.set_xticks(range(len(classes)), classes)
        axis.set_yticks(range(len(classes)), classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if len(classes) <= 20:
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
    axis.set_title(
        f"{title}: {100 * counts.trace() / counts.sum():.1f} % of {counts.sum():,}", fontsize=10
    )
    figure.savefig(file, dpi=120)
    plt.close(figure)


def roc(
    scores: Array,
    labels: Array,
    areas: Sequence[float | None],
    classes: Sequence[str],
    file: Path,
    title: str,
) -> None:
    """ROC of each class against the rest, and the mean of their curves.

    Of many classes the ten with the smallest area are drawn.

    Args:
        scores, labels: (N, K), the larger the likelier, and (N,).
        areas: AUC by class, None where it is undefined: such a class has no curve. Without any
            there is no figure.
    """
    area = {c: value for c, value in enumerate(areas) if value is not None}
    if not area:
        return
    curves = {c: roc_curve(labels == c, scores[:, c])[:2] for c in area}
    figure, axis = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
    for i, c in enumerate(sorted(sorted(area, key=area.__getitem__)[:NAMED])):
        style = "-" if i < len(COLOURS) else "--"
        axis.plot(
            *curves[c],
            style,
            lw=1,
            color=COLOURS[i % len(COLOURS)],
            label=f"{classes[c]}: {area[c]:.3f}",
        )
    false_rates = np.linspace(0, 1, 501)
    mean = np.mean([np.interp(false_rates, *curve) for curve in curves.values()], axis=0)
    axis.plot(
        [0, *false_rates],
        [0, *mean],
        lw=2,
        color="black",
        label=f"mean of {len(curves)}: {np.mean([*area.values()]):.3f}",
    )
    axis.legend(title="one against the rest: AUC", fontsize=7, title_fontsize=7, loc="lower right")
    axis.set_xlabel("false positive rate")
    axis.set_ylabel("true positive rate")
    axis.set_title(f"{title}: ROC", fontsize=10)
    axis.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def reliability(probabilities: Array, labels: Array, file: Path, title: str) -> None:
    """Reliability diagram: accuracy by confidence, and below it where the images lie.

    On the diagonal the network knows what it knows. Probabilities (N, K), labels (N,).
    """
    counts, accuracy, confidence = report.reliability(probabilities, labels)
    filled, edges = counts > 0, np.arange(report.BINS) / report.BINS
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(4.8, 5.6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    upper.plot([0, 1], [0, 1], color="grey", lw=1)
    upper.bar(edges, accuracy, 1 / report.BINS, align="edge", color=COLOURS[0], edgecolor="white")
    upper.plot(
        confidence[filled],
        accuracy[filled],
        "o",
        color=COLOURS[1],
        markersize=4,
        label="mean confidence of the bin",
    )
    upper.legend(fontsize=8, loc="upper left")
    upper.set_ylabel("accuracy")
    upper.set_title(
        f"{title}: ECE {100 * report.calibration_error(probabilities, labels):.1f} %", fontsize=10
    )
    lower.bar(
        edges,
        counts / counts.sum(),
        1 / report.BINS,
        align="edge",
        color=COLOURS[0],
        edgecolor="white",
    )
    lower.set_ylabel("share of images")
    lower.set_xlabel("confidence: the top probability")
    lower.set_xlim(0, 1)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def embedding(arrays: Mapping[str, Array], classes: Sequence[str], file: Path, title: str) -> None:
    """t-SNE of both domains' features before and after adaptation.

    The arrays are those of :func:`tl_runner.record.embeddings.load`.

    Colour is the class, the sign the domain. Without features of both domains there is no figure.
    """
    drawn = {}
    for when in WHEN:
        if domains := pair(arrays, when):
            source, target = tsne.subsample(*map(len, domains))
            if points := tsne.embed(domains[0][source], domains[1][target]):
                drawn[when] = [
                    (points[0], arrays["source/labels"][source]),
                    (
                        points[1],
                        labels[target]
                        if (labels := arrays.get("target/labels")) is not None
                        else None,
                    ),
                ]
    if not drawn:
        return
    distances, palette = (
        a_distances(arrays),
        plt.get_cmap("tab10" if len(classes) <= 10 else "tab20" if len(classes) <= 20 else "turbo"),
    )
    colours = palette(
        np.arange(len(classes)) if len(classes) <= 20 else np.linspace(0, 1, len(classes))
    )
    figure, axes = plt.subplots(
        1, len(drawn), figsize=(4.6 * len(drawn), 5.2), squeeze=False, layout="constrained"
    )
    for axis, (when, (of_source, of_target)) in zip(axes[0], drawn.items(), strict=True):
        axis.scatter(
            *of_source[0].T,
            s=26,
            marker="o",
            facecolors="none",
            edgecolors=colours[of_source[1]],
            linewidths=1,
        )
        axis.scatter(
            *of_target[0].T,
            s=26,
            marker="^",
            color="0.3" if of_target[1] is None else colours[of_target[1]],  # grey without labels
            edgecolors="white",
            linewidths=0.4,
        )
        axis.set_title(
            f"{when if len(drawn) > 1 else 'features'}: A-distance {distances[when]:.2f}",
            fontsize=10,
        )
        axis.set(xticks=[], yticks=[])
        axis.set_box_aspect(1)
    signs = [
        Line2D([], [], ls="", marker="o", mfc="none", mec="0.3"),
        Line2D([], [], ls="", marker="^", mfc="0.3", mec="0.3"),
    ]
    named = (
        [Line2D([], [], ls="", marker="s", mfc=colour, mec="none") for colour in colours]
        if len(classes) <= 20
        else []
    )
    figure.legend(
        [*signs, *named],
        ["source", "target", *classes][: len(signs) + len(named)],
        loc="outside lower center",
        ncols=12,
        fontsize=8,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1,
    )
    figure.suptitle(f"{title}: features by t-SNE", fontsize=11)
    figure.savefig(file, dpi=120)
    plt.close(figure)
