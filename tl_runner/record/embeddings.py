"""Features of a few test images of both domains, before and after adaptation, for the report's pictures: ``embeddings.npz``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.tasks import Split
from tl_runner.methods.base import Method
from tl_runner.record.folder import RunFolder
from tl_runner.training.device import Device
from tl_runner.training.evaluation import outputs_of

FILE = "embeddings.npz"
IMAGES = 300  # of each domain, the same for every run


def keep(
    folder: RunFolder, when: str, method: Method, embed: Mapping[str, Callable[[Tensor], Tensor]], splits: Mapping[str, Split], device: Device
) -> None:
    """Write ``{when}/{domain}`` float16 (N, d) and ``{domain}/labels`` int64 (N,); what ``before`` wrote stays beside ``after``."""
    arrays: dict[str, np.ndarray] = {}
    if when == "after" and (folder.path / FILE).exists():
        with np.load(folder.path / FILE, allow_pickle=False) as stored:
            arrays = dict(stored)
    for domain, encode in embed.items():
        split = splits.get(f"{domain}_test")
        if split is None or split.y is None:
            continue
        order = torch.randperm(len(split), generator=randomness.generator(0, "embeddings"))[:IMAGES]
        some = split.take(order.to(split.x.device))
        assert some.y is not None
        arrays[f"{when}/{domain}"] = outputs_of(method, encode, some, device).flatten(1).half().cpu().numpy()
        arrays[f"{domain}/labels"] = some.y.cpu().numpy()
    if arrays:
        folder.arrays(FILE, arrays)
