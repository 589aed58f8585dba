"""Figures of a run: learning curves, confusion matrix, ROC and reliability diagram, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from tl_runner.metrics import report

Array = NDArray

# Okabe & Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NAMED = 10  # classes with a curve of their own
SKIPPED = {"phase", "epoch", "step", "split", "selected", "wall_s"}


def curves(rows: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """One column of panels a phase: training losses above, validation and label-free scores below."""
    rows = [r for r in rows if "step" in r]
    phases = list(dict.fromkeys(r["phase"] for r in rows))
    if not phases:
        return
    figure, axes = plt.subplots(2, len(phases), figsize=(5.2 * len(phases), 6.4), squeeze=False, layout="constrained")
    for column, phase in enumerate(phases):
        own = [r for r in rows if r["phase"] == phase]
        training = [r for r in own if not _evaluated(r["split"])]
        scores = [r for r in own if _evaluated(r["split"])]
        _panel(axes[0][column], training, f"{phase}: training", named=False)
        _panel(axes[1][column], scores, f"{phase}: evaluation", named=True)
        axes[1][column].set_xlabel("step")
    figure.suptitle(title)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _evaluated(split: str) -> bool:
    """Training rows name what was read, all of it labelled source or a pair; evaluations one held-out split."""
    return split in ("source_val", "target_train", "target_test")


def _panel(axis: Any, rows: Sequence[Mapping[str, Any]], title: str, named: bool) -> None:
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in SKIPPED and key != "log_loss" and not key.startswith("lr"):
                series.setdefault(f"{row['split']} {key}" if named else key, []).append((row["step"], value))
    for i, (name, points) in enumerate(series.items()):
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, label=name, color=COLOURS[i % len(COLOURS)], marker="o", markersize=3)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    if series:
        axis.legend(fontsize=8)


def confusion(counts: Array, classes: Sequence[str], file: Path, title: str) -> None:
    """Counts (K, K): rows are the true classes, columns the predicted ones; shade is the share of the row."""
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
    axis.set_title(f"{title}: {100 * counts.trace() / counts.sum():.1f} % of {counts.sum():,}", fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def roc(probabilities: Array, labels: Array, areas: Sequence[float | None], classes: Sequence[str], file: Path, title: str) -> None:
    """Each class against the rest, and the mean of their curves; of many classes the ten with the smallest area are drawn.

    Args:
        probabilities, labels: (N, K), (N,).
        areas: AUC by class, None where it is undefined: such a class has no curve. Without any there is no figure.
    """
    area = {c: value for c, value in enumerate(areas) if value is not None}
    if not area:
        return
    curves = {c: roc_curve(labels == c, probabilities[:, c])[:2] for c in area}
    figure, axis = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
    for i, c in enumerate(sorted(sorted(area, key=area.__getitem__)[:NAMED])):
        style = "-" if i < len(COLOURS) else "--"
        axis.plot(*curves[c], style, lw=1, color=COLOURS[i % len(COLOURS)], label=f"{classes[c]}: {area[c]:.3f}")
    false_rates = np.linspace(0, 1, 501)
    mean = np.mean([np.interp(false_rates, *curve) for curve in curves.values()], axis=0)
    axis.plot([0, *false_rates], [0, *mean], lw=2, color="black", label=f"mean of {len(curves)}: {np.mean([*area.values()]):.3f}")
    axis.legend(title="one against the rest: AUC", fontsize=7, title_fontsize=7, loc="lower right")
    axis.set_xlabel("false positive rate")
    axis.set_ylabel("true positive rate")
    axis.set_title(f"{title}: ROC", fontsize=10)
    axis.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def reliability(probabilities: Array, labels: Array, file: Path, title: str) -> None:
    """Accuracy by confidence, on the diagonal where the network knows what it knows; below, where the images lie. (N, K), (N,)."""
    counts, accuracy, confidence = report.reliability(probabilities, labels)
    filled, edges = counts > 0, np.arange(report.BINS) / report.BINS
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(4.8, 5.6), sharex=True, height_ratios=(3, 1), layout="constrained")
    upper.plot([0, 1], [0, 1], color="grey", lw=1)
    upper.bar(edges, accuracy, 1 / report.BINS, align="edge", color=COLOURS[0], edgecolor="white")
    upper.plot(confidence[filled], accuracy[filled], "o", color=COLOURS[1], markersize=4, label="mean confidence of the bin")
    upper.legend(fontsize=8, loc="upper left")
    upper.set_ylabel("accuracy")
    upper.set_title(f"{title}: ECE {100 * report.calibration_error(probabilities, labels):.1f} %", fontsize=10)
    lower.bar(edges, counts / counts.sum(), 1 / report.BINS, align="edge", color=COLOURS[0], edgecolor="white")
    lower.set_ylabel("share of images")
    lower.set_xlabel("confidence: the top probability")
    lower.set_xlim(0, 1)
    figure.savefig(file, dpi=120)
    plt.close(figure)
