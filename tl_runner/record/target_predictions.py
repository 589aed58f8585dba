"""What a run says of a target without labels: each sample's class, and how the classes are shared.

Nothing here reads a label of the target, and nothing is called an accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl_runner.data.task import Task
from tl_runner.files import csv_text, inert_path

FILE = "predictions.csv"
DIGITS = 6


def without_labels(task: Task) -> bool:
    """Whether no sample of the target has a label to test on."""
    return "target_train" in task.splits and "target_test" not in task.splits


def outputs(predictions: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """(ids, outputs) of every sample of the target that was predicted, each once, by id.

    Outputs are probabilities (N, K), or numbers (N,). None where there are none.
    """
    found: dict[int, np.ndarray] = {}
    for kind in ("probabilities", "values"):
        for part in ("train", "labelled", "val", "test"):
            name = f"target_{part}"
            if f"{name}/{kind}" in predictions:
                ids = predictions[f"{name}/ids"].tolist()
                found |= dict(zip(ids, predictions[f"{name}/{kind}"], strict=True))
    ids = sorted(found)
    return (np.array(ids), np.stack([found[i] for i in ids])) if ids else None


def table(predictions: Mapping[str, np.ndarray], task: Task) -> str | None:
    """Content of ``predictions.csv``: file or row, class and probability, or number.

    None where every sample of the target has a label, and nobody waits for one.
    """
    names = task.files.get("target")
    if not names or (found := outputs(predictions)) is None:
        return None
    ids, values = found
    files = [inert_path(names[i]) for i in ids]
    if values.ndim == 1:
        rows = [[file, f"{v:.7g}"] for file, v in zip(files, values, strict=True)]
        return csv_text([["file", "value"], *rows])
    rows = [
        [file, task.classes[c], f"{p[c]:.6f}"]
        for file, c, p in zip(files, values.argmax(1), values, strict=True)
    ]
    return csv_text([["file", "class", "probability"], *rows])


def shares(
    predictions: Mapping[str, np.ndarray], classes: Sequence[str], source_labels: np.ndarray | None
) -> dict[str, Any]:
    """How a target without labels was predicted: ``confidence``, the mean probability of the class
    that is likeliest, and by class its share of the predictions and of the source's labels.

    Of numbers their ``mean``, ``lowest`` and ``highest``.
    """
    found = outputs(predictions)
    if found is None:
        return {}
    if found[1].ndim == 1:
        ends = {"mean": found[1].mean(), "lowest": found[1].min(), "highest": found[1].max()}
        return {"samples": len(found[1]), **{name: float(v) for name, v in ends.items()}}
    p, k = found[1], len(classes)
    predicted = np.bincount(p.argmax(1), minlength=k) / len(p)
    own = None
    if source_labels is not None:
        own = np.bincount(source_labels, minlength=k) / len(source_labels)
    return {
        "samples": len(p),
        "confidence": round(float(p.max(1).mean()), DIGITS),
        "shares": {
            name: {
                "predicted": round(float(predicted[i]), DIGITS),
                "source": None if own is None else round(float(own[i]), DIGITS),
            }
            for i, name in enumerate(classes)
        },
    }
