"""Scores of few-shot tasks against inner steps, as a figure and as rows of the closing table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_runner.metrics.evaluation_report import Report

SHOWN = (0, 1, 2, 3, 5, 10, 20, 50)  # inner steps with a row of their own, beside the last


def figure(reports: Mapping[str, Report], file: Path, title: str) -> None:
    """Scores of validation and test tasks after each inner step, with 95 % intervals over tasks."""
    from matplotlib import pyplot as plt

    from tl_runner.record.figures import COLOURS

    drawn, axis = plt.subplots(figsize=(5.2, 4), layout="constrained")
    for colour, (name, report) in zip(COLOURS, [*reports.items()][::-1], strict=False):
        curve = report["curve"]
        metric = metric_of(curve)
        axis.errorbar(
            curve["steps"],
            curve[metric],
            curve["ci95"],
            label=name.replace("_", " "),
            color=colour,
            marker="o",
            markersize=3,
        )
        axis.set(xlabel="inner steps", ylabel=metric)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    drawn.savefig(file, dpi=120)
    plt.close(drawn)


def metric_of(curve: Mapping[str, Any]) -> str:
    """Name of a curve's score: accuracy or mse."""
    return next(name for name in curve if name not in ("steps", "ci95"))


def rows(curve: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (inner steps, score, half its 95 % interval) of the closing table."""
    metric = metric_of(curve)
    steps = [n for n in curve["steps"] if n in SHOWN or n == curve["steps"][-1]]
    by_steps = dict(
        zip(curve["steps"], zip(curve[metric], curve["ci95"], strict=True), strict=True)
    )
    scale, digits = (100, 2) if metric == "accuracy" else (1, 3)
    return [
        (str(n), f"{scale * by_steps[n][0]:.{digits}f}", f"{scale * by_steps[n][1]:.{digits}f}")
        for n in steps
    ]
