"""Predictions and features as tables, CSV, JSON and arrays."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tl_runner.files import csv_text, inert_path
from tl_runner.predict.run import Found


@dataclass(frozen=True)
class Shown:
    """How predictions are shown.

    Attributes:
        classes: of the run; none: it predicts numbers.
        top: how many of the likeliest classes.
        unsure: the probability below which a prediction is marked; None: none is.
    """

    classes: Sequence[str]
    top: int = 1
    unsure: float | None = None

    def sure(self, p: np.ndarray) -> bool:
        """Whether a prediction, probabilities (K,), is none to be marked."""
        return self.unsure is None or bool(p.max() >= self.unsure)


def likeliest(p: np.ndarray, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The ``top`` likeliest classes of one picture with their probabilities.

    Of equal ones the first. Probabilities (K,).
    """
    return [(classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]


def written(kind: str, found: Found, shown: Shown) -> bytes:
    """Content of a file in the format ``kind``: csv, json or npz."""
    if kind == "npz":
        out = io.BytesIO()
        np.savez_compressed(
            out, features=found.values, files=np.array([str(f) for f in found.files])
        )
        return out.getvalue()
    if kind == "json":
        labels = found.labels or ("",) * len(found.files)
        rows = [
            entry(file, p, shown) | ({"true": label} if label else {})
            for file, p, label in zip(found.files, found.values, labels, strict=True)
        ]
        rows += [{"file": str(file), "error": why} for file, why in found.unreadable.items()]
        return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode(
            errors="backslashreplace"
        )
    if kind != "csv":
        raise ValueError(f"{kind!r} is no format of a file")
    return csv_text(lines(found, shown)).encode(errors="surrogateescape")


def entry(file: Path, p: np.ndarray, shown: Shown) -> dict:
    """JSON entry of one picture."""
    classes = shown.classes
    if not classes:
        return {"file": str(file), "value": float(f"{p[0]:.7g}")}
    ((name, probability),) = likeliest(p, classes, 1)
    every = {name: round(float(v), 6) for name, v in zip(classes, p, strict=True)}
    return {
        "file": str(file),
        "class": name,
        "probability": round(probability, 6),
        "probabilities": every,
    } | ({} if shown.unsure is None else {"sure": shown.sure(p)})


def lines(found: Found, shown: Shown) -> Iterator[list]:
    """Lines of a CSV file, the first its columns."""
    classes, width = shown.classes, found.values.shape[1]
    top = min(shown.top, len(classes))
    if found.features:
        head = [f"feature_{i}" for i in range(width)]
    elif not classes:
        head = ["value"]
    else:
        more = [f"{word}_{i}" for i in range(2, top + 1) for word in ("class", "probability")]
        head = ["class", "probability", *more]
        head += ["sure"] if shown.unsure is not None else []
    head += ["true"] if found.labels else []
    yield ["file", *head]
    labels = found.labels or ("",) * len(found.files)
    for file, values, label in zip(found.files, found.values, labels, strict=True):
        if found.features or not classes:
            cells = [f"{v:.7g}" for v in values]
        else:
            cells = [
                cell for name, v in likeliest(values, classes, top) for cell in (name, f"{v:.6f}")
            ]
            if shown.unsure is not None:
                cells.append("yes" if shown.sure(values) else "no")
        yield [inert_path(str(file)), *cells, *([label] if found.labels else [])]


def show(found: Found, shown: Shown) -> None:
    """Print a table to the terminal."""
    classes, top = shown.classes, shown.top
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    if not classes:
        table.add_column("value", justify="right")
    for i in range(min(top, len(classes))):
        table.add_column("class" if not i else "")
        table.add_column("%", justify="right")
    if classes and shown.unsure is not None:
        table.add_column("")
    for file, p in zip(found.files, found.values, strict=True):
        cells = (
            [
                cell
                for name, v in likeliest(p, classes, top)
                for cell in (Text(name), f"{100 * v:.1f}")
            ]
            if classes
            else [f"{p[0]:.5g}"]
        )
        marked = [] if shown.sure(p) or not classes else ["unsure"]
        table.add_row(Text(str(file)), *cells, *marked)
    Console().print(table)
