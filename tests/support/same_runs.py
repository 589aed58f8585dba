"""Runs compared to the bit: weights, metrics and predictions, without the clocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

CLOCKS = {"ended", "wall_s", "data_s", "images_per_s", "peak_memory_mb"}


def content(folder: Path) -> tuple[dict, list[dict], dict, dict]:
    """(weights and optimisers, metrics, predictions, result) without clocks."""
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in lines]
    with np.load(folder / "predictions.npz") as arrays:
        predictions = {k: arrays[k] for k in arrays}
    result = json.loads((folder / "result.json").read_text())
    result["phases"] = [{k: v for k, v in p.items() if k not in CLOCKS} for p in result["phases"]]
    for cost in result.get("costs", {}).values():
        del cost["latency_ms"]
    return state["method"], rows, predictions, {k: v for k, v in result.items() if k not in CLOCKS}


def assert_same(one: Path, other: Path) -> None:
    """Two run folders hold the same weights, metrics, predictions and result."""
    (weights, rows, predictions, result), (weights2, rows2, predictions2, result2) = (
        content(one),
        content(other),
    )
    assert rows == rows2
    assert result == result2
    for name, tensor in weights.items():
        assert torch.equal(tensor, weights2[name]), name
    assert predictions.keys() == predictions2.keys()
    for name, array in predictions.items():
        assert np.array_equal(array, predictions2[name]), name


def by_folder(sweep: Path) -> dict[str, Path]:
    """Folders of a sweep's finished runs by their names."""
    return {p.parent.name: p.parent for p in sorted(sweep.glob("*/result.json"))}
