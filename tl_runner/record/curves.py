"""Curves by epoch: the panels of a run's ``curves.png``, and how a curve is drawn everywhere.

NumPy and matplotlib alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

from tl_runner.metrics.selection_rules import EVALUATED, EVALUATIONS, RULES

# Okabe & Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("", "5 2", "1.5 1.5")
MARKED = 25  # points up to which each is marked
COLUMNS = 3  # of panels
SCORED = ("accuracy", "mse")  # what a split's panel shows: the first that it has
NOT_VALUES = {"phase", "epoch", "step", "split", "selected", "wall_s"}


def dashes(i: int) -> str:
    """Dash pattern of curve ``i``, as SVG writes it."""
    return DASHES[i // len(COLOURS) % len(DASHES)]


def colour(i: int) -> str:
    """Colour of curve ``i``."""
    return COLOURS[i % len(COLOURS)]


def style(i: int) -> dict[str, Any]:
    """Colour and dashes of curve ``i``, as matplotlib takes them."""
    return {"color": colour(i), "dashes": [float(d) for d in dashes(i).split()] or (None, None)}


def draw(
    axis: Any,
    i: int,
    x: np.ndarray,
    y: np.ndarray,
    spread: np.ndarray | None = None,
    *,
    percent: bool = False,
    width: float = 1.6,
    label: str | None = None,
) -> None:
    """Draw curve ``i`` of points (P,), one point as a dot with its value, and a band around it.

    Args:
        spread: half the band's height (P,); None: there is none.
        percent: the values are fractions of 1, and are shown in percent.
    """
    scale = 100 if percent else 1
    marker = "o" if len(x) < MARKED else ""
    axis.plot(x, scale * y, linewidth=width, marker=marker, markersize=2.6, label=label, **style(i))
    if len(x) == 1 and np.isfinite(y[0]):
        axis.annotate(
            f"{scale * y[0]:.1f}" if percent else f"{y[0]:.3g}",
            (x[0], scale * y[0]),
            textcoords="offset points",
            xytext=(6, 0),
            va="center",
            color=colour(i),
        )
    if spread is not None:
        low, high = y - spread, y + spread
        if percent:
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        axis.fill_between(x, scale * low, scale * high, color=colour(i), alpha=0.18, linewidth=0)


def by_epoch(axis: Any, percent: bool) -> None:
    """Lay out an axis of epochs, which are whole, and of a quantity that ends at 0 and 100."""
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if percent:
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -1), min(high, 101))


@dataclass
class History:
    """What a run recorded of its epochs, which count on from phase to phase.

    Attributes:
        ends: of each phase, by name, in order: its last epoch.
        series: points (epoch, value) by split and name.
    """

    ends: dict[str, int] = field(default_factory=dict)
    series: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> History:
        """The history in the rows of ``metrics.jsonl``."""
        found = cls()
        before, phase = 0, ""
        for row in rows:
            if "step" not in row or not isinstance(row.get("epoch"), int):
                continue  # a report, not an epoch
            if row["phase"] != phase:
                before, phase = max(found.ends.values(), default=0), row["phase"]
            epoch = before + row["epoch"]
            found.ends[phase] = epoch
            for name, value in row.items():
                if name not in NOT_VALUES and not name.startswith("lr") and _is_number(value):
                    found.series.setdefault((row["split"], name), []).append((epoch, value))
        return found

    def evaluations(self) -> dict[str, tuple[str, list[tuple[int, float]]]]:
        """(metric, points) of each evaluated split."""
        found = {}
        for split in EVALUATED:
            name = next((n for n in SCORED if (split, n) in self.series), None)
            if name and split != "target_train":
                found[split] = name, self.series[split, name]
        return found

    def training(self) -> dict[str, list[tuple[int, float]]]:
        """What the phases' updates reported, by name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for (split, name), points in self.series.items():
            if not (split in EVALUATED and name in EVALUATIONS):
                found.setdefault(name, []).extend(points)
        return {name: sorted(points) for name, points in found.items()}

    def scores(self) -> dict[str, list[tuple[int, float]]]:
        """Label-free scores, each from its least, 0, to its greatest, 1."""
        found = {}
        for name, rule in RULES.items():
            points = self.series.get((rule.split, rule.name), [])
            values = [y for _, y in points]
            if rule.name not in ("", "accuracy") and len({*values}) > 1:
                low, high = min(values), max(values)
                found[name] = [(x, (y - low) / (high - low)) for x, y in points]
        return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and np.isfinite(value)


def curves(rows: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """Write a run's learning curves: what training reported, a panel of each evaluated split, and
    the label-free scores by which an epoch may be chosen."""
    history = History.of(rows)
    panels: list[tuple[str, bool, Mapping[str, list[tuple[int, float]]]]] = []
    if reported := history.training():
        panels.append(("training, mean of the epoch", False, reported))
    for split, (name, points) in history.evaluations().items():
        percent = name == "accuracy"
        panels.append((f"{split}: {name}{', %' if percent else ''}", percent, {"": points}))
    if scores := history.scores():
        panels.append(("label-free scores, each from its least to its greatest", False, scores))
    if not panels:
        return
    lines = -(-len(panels) // COLUMNS)
    width, height = 4.8 * min(len(panels), COLUMNS), 3.6 * lines
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(lines, min(len(panels), COLUMNS), squeeze=False)
    # margins in inches: a layout that is fitted takes as long as the drawing itself
    figure.subplots_adjust(
        *(0.6 / width, 0.55 / height, 1 - 0.2 / width, 1 - 0.8 / height),
        **{"wspace": 0.18, "hspace": 0.35},
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, percent, series) in zip(axes.flat, panels, strict=False):
        for i, (label, points) in enumerate(series.items()):
            x, y = (np.array(part, dtype=float) for part in zip(*points, strict=True))
            draw(axis, i, x, y, percent=percent, label=label)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epoch")
        by_epoch(axis, percent)
        if any(series):
            axis.legend(fontsize=8)
        _phases(axis, history.ends)
    figure.suptitle(title)
    figure.savefig(file, dpi=120)


def _phases(axis: Any, ends: Mapping[str, int]) -> None:
    """Mark where one phase ends and the next begins."""
    if len(ends) < 2:
        return
    begin = 0
    for phase, end in ends.items():
        if begin:
            axis.axvline(begin + 0.5, color="0.5", linewidth=0.8, linestyle=":")
        axis.text(
            (begin + end + 1) / 2,
            1,
            phase,
            transform=axis.get_xaxis_transform(),
            fontsize=7,
            color="0.4",
            ha="center",
            va="bottom",
        )
        begin = end
    axis.set_xlim(0.5, begin + 0.5)
    axis.set_title(axis.get_title(), fontsize=10, pad=14)
