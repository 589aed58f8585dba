"""SVHN: 73,257 and 26,032 house numbers from street photographs, 32x32 in colour.

Netzer et al. 2011, format 2.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.domain import Downloaded, torchvision_datasets


class SVHN(Downloaded):
    """SVHN's digits, (N, 3, 32, 32), without the half million of easier ``extra`` images."""

    title = "SVHN"
    files = (("SVHN/train_32x32.mat",), ("SVHN/test_32x32.mat",))
    sizes = (73_257, 26_032)

    @staticmethod
    def fetch(root: Path) -> None:
        (root / "SVHN").mkdir(exist_ok=True)
        for split in ("train", "test"):
            torchvision_datasets().SVHN(str(root / "SVHN"), split=split, download=True)

    @staticmethod
    def arrays(root: Path, train: bool) -> tuple[Tensor, Tensor]:
        data = torchvision_datasets().SVHN(
            str(root / "SVHN"), split="train" if train else "test", download=False
        )
        if data.data.shape[1:] != (3, 32, 32):
            raise ValueError(f"images of {tuple(data.data.shape[1:])}, not 3x32x32")
        return torch.from_numpy(data.data).contiguous(), torch.from_numpy(data.labels)
