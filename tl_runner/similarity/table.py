"""What was measured as a table, JSON and a figure."""

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
from tl_runner.similarity.compare import Found, Measure

TITLES = {
    "mmd": "MMD²",
    "coral": "CORAL",
    "wasserstein": "Wasserstein, by feature",
    "sliced_wasserstein": "Wasserstein, sliced",
    "a_distance": "proxy A-distance, 0 to 2",
    "logme": "LogME",
    "h_score": "H-score",
    "leep": "LEEP",
    "nce": "NCE",
    "linear_probe": "linear probe, accuracy",
}
NOTES = (
    "Distances are between features that both domains' mean square distance from their common "
    "mean is brought to 1 of; 0 is alike.",
    "Scores are of the target's labelled training samples; higher transfers better. Brackets: 95 "
    "%, from random halves of the samples.",
)


def show(found: Sequence[Found], said: str, took: str) -> None:
    """Print the table."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for one in found:
        table.add_column(one.name, justify="right")
    for part in ("distances", "scores"):
        names = list(dict.fromkeys(name for one in found for name in getattr(one, part)))
        for i, name in enumerate(names):
            table.add_row(
                TITLES[name],
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
    if said:
        console.print(f"\n {said}", highlight=False)


def cell(measure: Measure | None) -> str:
    """``0.123 [0.100, 0.146]``."""
    if measure is None or not math.isfinite(measure.value):
        return ""
    digits = ".2e" if 0 < abs(measure.value) < 1e-3 else ".3f"
    if not math.isfinite(measure.low):
        return f"{measure.value:{digits}}"
    return f"{measure.value:{digits}} [{measure.low:{digits}}, {measure.high:{digits}}]"


def as_json(found: Sequence[Found], said: str) -> str:
    """Everything that was measured."""
    return json.dumps(
        {"candidates": [finite(one.as_dict()) for one in found], "suggestion": said or None},
        indent=2,
        allow_nan=False,
    )


def finite(value: Any) -> Any:
    """The same with null for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(file: Path, kind: str, found: Sequence[Found], said: str) -> None:
    """Write JSON or the figure.

    Raises:
        UserError: the file cannot be written.
    """
    content = figure(found) if kind == "png" else (as_json(found, said) + "\n").encode()
    try:
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"-o {file} cannot be written: {error.strerror}.") from error


def figure(found: Sequence[Found]) -> bytes:
    """A PNG: a panel for each measure, a point with its interval for each candidate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    names = [
        (part, name)
        for part in ("distances", "scores")
        for name in dict.fromkeys(n for one in found for n in getattr(one, part))
    ]
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
            measure = getattr(one, part).get(name)
            if measure is not None and math.isfinite(measure.value):
                axis.plot(
                    [measure.low, measure.high],
                    [place, place],
                    color="#0072B2",
                    linewidth=2,
                    alpha=0.4,
                )
                axis.plot([measure.value], [place], "o", color="#0072B2", markersize=5)
        axis.set_title(TITLES[name], fontsize=9)
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
