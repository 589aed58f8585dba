"""Features of test images of both domains before and after adaptation, for pictures of the two: ``embeddings.npz``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tl_runner.record.folder import RunFolder

FILE = "embeddings.npz"


def keep(folder: RunFolder, when: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``{when}/{domain}`` float16 (N, d) and ``{domain}/labels`` int64 (N,); what ``before`` wrote stays beside ``after``."""
    before: dict[str, np.ndarray] = {}
    if when == "after" and (folder.path / FILE).exists():
        with np.load(folder.path / FILE, allow_pickle=False) as stored:
            before = dict(stored)
    if arrays:
        named = {name if name.endswith("/labels") else f"{when}/{name}": array for name, array in arrays.items()}
        folder.arrays(FILE, {**before, **named})
