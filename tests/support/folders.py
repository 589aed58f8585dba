"""Folders of small pictures whose shade says their class, and the task that they are read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tl_runner.data.tasks.folder import load

SHADES = {"cat": 60, "ship": 120, "truck": 180, "train": 230}
SETTINGS = {
    "source_dir": None,
    "target_classes": None,
    "source_classes": None,
    "size": 8,
    "channels": 3,
    "fit": "crop",
    "range": None,
    "transductive": None,
    "passes": None,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "source_test_fraction": 0.2,
    "target_labels": None,
    "unreadable": "fail",
    "workers": 0,
    "seed": 0,
}


def fill(root: Path, places: Mapping[str, int], brightness: float = 1.0) -> Path:
    """So many pictures in each place, of the shade of the class that the place names last."""
    draw = np.random.default_rng(len(places))
    for place, n in places.items():
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        shade = next((SHADES[p] for p in reversed(Path(place).parts) if p in SHADES), 90)
        for i in range(n):
            noise = draw.integers(-9, 10, (8, 8, 3))
            pixels = ((shade + noise) * brightness).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def grey_levels(classes: Sequence[str], shades: torch.Tensor) -> torch.Tensor:
    """Position of the class whose shade is nearest to each."""
    own = torch.tensor([float(SHADES[name]) for name in classes])
    return (shades[:, None] - own).abs().argmin(1)


def task_of(target: Path, tmp_path: Path, **more):
    """What the folder data makes of a target, kept in a cache of the test's own."""
    cache = str(tmp_path / "cache")
    return load(**{**SETTINGS, "target_dir": str(target), "cache": cache, **more})
