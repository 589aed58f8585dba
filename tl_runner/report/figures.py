"""Small panels as SVG to stand inside a page.

Text and axes take the page's colour, so that they read in light and dark.

Colours are Okabe and Ito's, told apart with any colour vision; curves of one panel differ in their
dashes as well from the seventh.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

from tl_runner.record.curves import COLOURS, by_epoch, colour, draw, style
from tl_runner.report.evidence import BINS, Band, Reliability

_INK = "#010203"  # becomes currentColor
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _INK,
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


class Panels:
    """Draws panels; the ids in each SVG carry its number, so that several can stand in one page."""

    def __init__(self) -> None:
        self._count = 0

    def curves(
        self, bands: Mapping[int, Band], x: str, y: str, what: str, percent: bool = True
    ) -> str:
        """Mean curves with their standard deviation, by the number of their colour."""
        with self._panel(what) as (axis, done):
            for drawn, (i, band) in enumerate(bands.items()):
                # methods that share a phase have one curve: each still shows
                width = 1.6 + 0.9 * max(0, min(len(bands), 4) - 1 - drawn)
                draw(axis, i, band.x, band.mean, band.std, percent=percent, width=width)
            axis.set_xlabel(x)
            axis.set_ylabel(y)
            by_epoch(axis, percent)
        return done[0]

    def roc(self, bands: Mapping[int, Band], what: str) -> str:
        """Mean ROC curves in the unit square."""
        with self._panel(what, height=3.2) as (axis, done):
            axis.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, linestyle="--", alpha=0.5)
            for i, band in bands.items():
                axis.plot(
                    band.x,
                    band.mean,
                    linewidth=1.6,
                    **style(i),
                )
                axis.fill_between(
                    band.x,
                    band.mean - band.std,
                    band.mean + band.std,
                    color=colour(i),
                    alpha=0.18,
                    linewidth=0,
                )
            axis.set(
                xlabel="false positive rate",
                ylabel="true positive rate",
                xlim=(-0.02, 1),
                ylim=(0, 1.02),
            )
            axis.set_aspect("equal")
            axis.grid()
        return done[0]

    def reliability(self, found: Reliability, what: str) -> str:
        """Reliability diagram: accuracy against confidence.

        The bars at the foot are the share of the samples in each bin.
        """
        with self._panel(what, height=3.2) as (axis, done):
            axis.plot([0, 1], [0, 1], color=_INK, linewidth=0.6, linestyle="--", alpha=0.5)
            centres = (np.ceil(found.confidence * BINS) - 0.5) / BINS
            axis.bar(
                centres,
                0.25 * found.share / found.share.max(),
                width=0.7 / BINS,
                color=_INK,
                alpha=0.2,
                linewidth=0,
            )
            axis.plot(
                found.confidence,
                found.accuracy,
                color=colour(0),
                linewidth=1.6,
                marker="o",
                markersize=3.4,
            )
            axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
            axis.set_aspect("equal")
            axis.grid()
        return done[0]

    def confusion(self, counts: np.ndarray, classes: Sequence[str], what: str) -> str:
        """Confusion matrix: rows are true classes, columns predicted ones.

        Shade and number are the share of the row in percent.
        """
        k = len(counts)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        pixels = np.empty((k, k, 4))
        pixels[..., :3] = [int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        pixels[..., 3] = shares
        with self._panel(what, height=3.5) as (axis, done):
            axis.imshow(pixels, interpolation="none")
            axis.spines[["top", "right"]].set_visible(True)
            axis.set(xlabel="predicted", ylabel="true")
            if k <= 12:
                for (i, j), share in np.ndenumerate(shares):
                    if share >= 0.005:
                        axis.text(
                            j,
                            i,
                            f"{100 * share:.0f}",
                            ha="center",
                            va="center",
                            color="white" if share > 0.45 else _INK,
                        )
                short = [name if len(name) <= 3 else name[:2] + "…" for name in classes]
                axis.set_xticks(range(k), short)
                axis.set_yticks(range(k), short)
                axis.tick_params(length=0)
        return done[0]

    def points(self, source: np.ndarray, target: np.ndarray, what: str) -> str:
        """Two clouds of points (n, 2): circles are source, triangles target."""
        with self._panel(what, height=3.2) as (axis, done):
            axis.scatter(
                *source.T, s=9, marker="o", facecolors="none", edgecolors=colour(0), linewidths=0.8
            )
            axis.scatter(*target.T, s=9, marker="^", color=colour(1), linewidths=0, alpha=0.8)
            axis.set(xticks=[], yticks=[])
            axis.spines[["top", "right"]].set_visible(True)
        return done[0]

    def scatter(self, points: Sequence[tuple[int, float, float]], x: str, y: str, what: str) -> str:
        """Scatter of points (number of a colour, x, y), with a line at y = 0."""
        with self._panel(what) as (axis, done):
            axis.axhline(0, color=_INK, linewidth=0.6, linestyle="--", alpha=0.5)
            for i, across, up in points:
                axis.scatter([across], [up], s=18, color=colour(i), linewidths=0)
            axis.set_xlabel(x)
            axis.set_ylabel(y)
            axis.grid()
        return done[0]

    @contextmanager
    def _panel(self, what: str, height: float = 2.5) -> Any:
        """Axis to draw on, and a list that holds the SVG afterwards."""
        self._count += 1
        with matplotlib.rc_context(_STYLE | {"svg.hashsalt": f"p{self._count}"}):
            figure = Figure(figsize=(3.4, height), layout="constrained")
            done: list[str] = []
            yield figure.add_subplot(), done
            out = io.StringIO()
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        done.append(inline(out.getvalue(), f"p{self._count}-", what))


def inline(svg: str, prefix: str, what: str) -> str:
    """Content of an SVG file for a page; ``what`` names it.

    No header, own ids, as wide as its place, in the page's font and colour.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    referred = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in referred else "", svg
    )
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r" font-family: [^\"]*?(?:;|(?=\"))", "", svg)
    svg = re.sub(r"(?<=\d\.\d\d)\d+(?=[ \"),\n])", "", svg)  # hundredths of a point
    svg = re.sub(r"base64,[^\"]+", lambda m: m[0].replace("\n", ""), svg)
    svg = (
        re.sub(r"\s*\n\s*", " ", svg)
        .replace("> <", "><")
        .replace("<g></g>", "")
        .replace(_INK, "currentColor")
    )
    box = re.search(r'viewBox="[^"]*"', svg)
    head = (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box[0] if box else ""} role="img" '
        f'aria-label="{escape(what)}">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
