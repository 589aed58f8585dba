"""Figures of a run: learning curves and the confusion matrix, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from torch import Tensor

from tl_runner.metrics import classification

# Okabe & Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
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
            if key not in SKIPPED and key != "log_loss":
                series.setdefault(f"{row['split']} {key}" if named else key, []).append((row["step"], value))
    for i, (name, points) in enumerate(series.items()):
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, label=name, color=COLOURS[i % len(COLOURS)], marker="o", markersize=3)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    if series:
        axis.legend(fontsize=8)


def confusion(predicted: Tensor, labels: Tensor, classes: Sequence[str], file: Path, title: str) -> None:
    """Rows are the true classes, columns the predicted ones; shade is the share of the row, the number a count."""
    counts = classification.confusion(predicted, labels, len(classes))
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    side = max(4.8, 0.5 * len(classes))
    figure, axis = plt.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if len(classes) <= 20:
        for i in range(len(classes)):
            for j in range(len(classes)):
                if n := int(counts[i, j]):
                    axis.text(j, i, str(n), ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.5 else "black")
    accuracy = (predicted == labels).float().mean().item()
    axis.set_title(f"{title}, target test: {100 * accuracy:.1f} % of {len(labels):,}", fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)
