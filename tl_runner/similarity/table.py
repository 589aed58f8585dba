"""Similarity as a table in the terminal, as JSON and as a figure."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tl_runner.errors import UserError
from tl_runner.files import write_atomic
from tl_runner.similarity.compare import Estimate, Found
from tl_runner.similarity.measures import BY_NAME, MEASURES

NOTES = (
    "Distances are between features that both domains' mean square distance from their common "
    "mean is brought to 1 of; 0 is no difference.",
    "Scores are of the target's labelled training samples; higher transfers better. Brackets: 95 "
    "%, from random halves of the samples.",
)


def show(found: Sequence[Found], suggestion: str, took: str) -> None:
    """Print the table, and below it the suggestion if there is one."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for one in found:
        table.add_column(one.name, justify="right")
    for part in ("distances", "scores"):
        names = names_of(found, part)
        for i, name in enumerate(names):
            table.add_row(
                BY_NAME[name].title,
                *(cell(getattr(one, part).get(name)) for one in found),
                end_section=i == len(names) - 1,
            )
        if part == "distances":
            table.add_row("p of one domain", *(f"{one.p:.3f}" for one in found), end_section=True)
    console.print(table)
    sizes = found[0].sizes
    labels = f", {sizes['labelled']:,} with a label" if sizes["labelled"] else ""
    console.print(
        f" {sizes['source']:,} source and {sizes['target']:,} target samples{labels}; {took}",
        highlight=False,
    )
    for one in found:
        if one.note:
            console.print(f" {one.name}: {one.note}", highlight=False)
    for note in NOTES[: 1 + any(one.scores for one in found)]:
        console.print(f" {note}", highlight=False)
    if found[0].numbers:
        console.print(
            " The labels are numbers: the scores of transferability are of classes.",
            highlight=False,
        )
    elif not any(one.scores for one in found):
        console.print(
            " With target labels (data.target_labels=all, or a number a class) it also scores "
            "transferability.",
            highlight=False,
        )
    if suggestion:
        console.print(f"\n {suggestion}", highlight=False)


def names_of(found: Sequence[Found], part: str) -> list[str]:
    """Measures that any candidate has in ``distances`` or ``scores``, in the table's order."""
    there = {name for one in found for name in getattr(one, part)}
    return [measure.name for measure in MEASURES if measure.name in there]


def cell(estimate: Estimate | None) -> str:
    """Text of an estimate: ``0.123 [0.100, 0.146]``."""
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    digits = ".2e" if 0 < abs(estimate.value) < 1e-3 else ".3f"
    if not math.isfinite(estimate.low):
        return f"{estimate.value:{digits}}"
    return f"{estimate.value:{digits}} [{estimate.low:{digits}}, {estimate.high:{digits}}]"


def as_json(found: Sequence[Found], suggestion: str) -> str:
    """JSON of everything that was measured."""
    return json.dumps(
        {"candidates": [finite(one.as_dict()) for one in found], "suggestion": suggestion or None},
        indent=2,
        allow_nan=False,
    )


def finite(value: Any) -> Any:
    """The value with null in the place of every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(file: Path, kind: str, found: Sequence[Found], suggestion: str) -> None:
    """Write JSON, or the figure where ``kind`` is png.

    Raises:
        UserError: the file cannot be written.
    """
    content = figure(found) if kind == "png" else (as_json(found, suggestion) + "\n").encode()
    try:
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"-o {file} cannot be written: {error.strerror}.") from error


def figure(found: Sequence[Found]) -> bytes:
    """A PNG: a panel for each measure, a point with its interval for each candidate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    names = [(part, name) for part in ("distances", "scores") for name in names_of(found, part)]
    columns = 5
    lines = -(-len(names) // columns)
    sheet = Figure(
        figsize=(2.6 * columns, (1.1 + 0.35 * len(found)) * lines + 0.3),
        layout="constrained",
        dpi=150,
    )
    axes = sheet.subplots(lines, columns, squeeze=False)
    places = [-i for i in range(len(found))]
    for axis, (part, name) in zip(axes.flat, names, strict=False):
        for place, one in zip(places, found, strict=True):
            estimate = getattr(one, part).get(name)
            if estimate is not None and math.isfinite(estimate.value):
                axis.plot(
                    [estimate.low, estimate.high],
                    [place, place],
                    color="#0072B2",
                    linewidth=2,
                    alpha=0.4,
                )
                axis.plot([estimate.value], [place], "o", color="#0072B2", markersize=5)
        axis.set_title(BY_NAME[name].title, fontsize=9)
        first = axis in axes[:, 0]
        axis.set_yticks(
            places, [one.name for one in found] if first else [""] * len(found), fontsize=8
        )
        axis.set_ylim(-len(found) + 0.5, 0.5)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    out = io.BytesIO()
    sheet.savefig(out, format="png")
    return out.getvalue()
