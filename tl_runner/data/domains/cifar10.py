"""CIFAR-10: 50,000 and 10,000 photographs of ten kinds of things, 32x32 in colour.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

Its files are pickles. torchvision reads them only if their MD5 sums are the published ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.domain import Downloaded, torchvision_datasets

FOLDER = "cifar-10-batches-py"


class CIFAR10(Downloaded):
    """CIFAR-10's photographs, (N, 3, 32, 32)."""

    title = "CIFAR-10"
    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    files = (
        tuple(
            f"{FOLDER}/{name}"
            for name in ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)))
        ),
        (f"{FOLDER}/test_batch",),
    )
    sizes = (50_000, 10_000)

    @staticmethod
    def fetch(root: Path) -> None:
        torchvision_datasets().CIFAR10(str(root), download=True)

    @staticmethod
    def arrays(root: Path, train: bool) -> tuple[Tensor, Tensor]:
        data = torchvision_datasets().CIFAR10(str(root), train=train, download=False)
        return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(
            data.targets
        )
