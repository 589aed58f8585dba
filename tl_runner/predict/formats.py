"""Predictions and features as tables, CSV, JSON and arrays."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tl_runner.files import csv_text, inert_path
from tl_runner.predict.run import Found


def likeliest(p: np.ndarray, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The ``top`` likeliest classes of one picture with their probabilities.

    Of equal ones the first. Probabilities (K,).
    """
    return [(classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]


def written(kind: str, found: Found, classes: Sequence[str], top: int) -> bytes:
    """Content of a file in the format ``kind``: csv, json or npz."""
    if kind == "npz":
        out = io.BytesIO()
        np.savez_compressed(
            out, features=found.values, files=np.array([str(f) for f in found.files])
        )
        return out.getvalue()
    if kind == "json":
        rows = [entry(file, p, classes) for file, p in zip(found.files, found.values, strict=True)]
        rows += [{"file": str(file), "error": why} for file, why in found.unreadable.items()]
        return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode(
            errors="backslashreplace"
        )
    if kind != "csv":
        raise ValueError(f"{kind!r} is no format of a file")
    return csv_text(lines(found, classes, top)).encode(errors="surrogateescape")


def entry(file: Path, p: np.ndarray, classes: Sequence[str]) -> dict:
    """JSON entry of one picture."""
    if not classes:
        return {"file": str(file), "value": float(f"{p[0]:.7g}")}
    ((name, probability),) = likeliest(p, classes, 1)
    every = {name: round(float(v), 6) for name, v in zip(classes, p, strict=True)}
    return {
        "file": str(file),
        "class": name,
        "probability": round(probability, 6),
        "probabilities": every,
    }


def lines(found: Found, classes: Sequence[str], top: int) -> Iterator[list]:
    """Lines of a CSV file, the first its columns."""
    if found.features or not classes:
        yield (
            ["file", *(f"feature_{i}" for i in range(found.values.shape[1]))]
            if found.features
            else ["file", "value"]
        )
        for file, values in zip(found.files, found.values, strict=True):
            yield [inert_path(str(file)), *(f"{v:.7g}" for v in values)]
        return
    top = min(top, len(classes))
    yield [
        "file",
        "class",
        "probability",
        *(f"{word}_{i}" for i in range(2, top + 1) for word in ("class", "probability")),
    ]
    for file, p in zip(found.files, found.values, strict=True):
        yield [
            inert_path(str(file)),
            *(cell for name, v in likeliest(p, classes, top) for cell in (name, f"{v:.6f}")),
        ]


def show(found: Found, classes: Sequence[str], top: int) -> None:
    """Print a table to the terminal."""
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    if not classes:
        table.add_column("value", justify="right")
    for i in range(min(top, len(classes))):
        table.add_column("class" if not i else "")
        table.add_column("%", justify="right")
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
        table.add_row(Text(str(file)), *cells)
    Console().print(table)
