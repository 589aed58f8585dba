"""USPS: 7,291 and 2,007 digits from envelopes, 16x16 (Hull 1994).

torchvision's is LIBSVM's copy, a slightly smoothed one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.domain import Downloaded, torchvision_datasets
from tl_runner.data.splits import Split, hold_out

RANDOM_SPLIT = 1_860  # test images of usps_split=random: 7,438 / 1,860 of the 9,298, drawn once


class USPS(Downloaded):
    """USPS's digits, (N, 1, 16, 16); ``usps_split`` is official or random."""

    title = "USPS"
    sampled = 1800
    files = (("USPS/usps.bz2",), ("USPS/usps.t.bz2",))
    sizes = (7_291, 2_007)

    def __init__(self, usps_split: str):
        self.split = usps_split

    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        train, test, checksums = super().read(root, download, seed)
        if self.split == "random":
            train, test = resplit(train, test, RANDOM_SPLIT)
        return train, test, checksums

    def notes(self) -> list[str]:
        return [f"USPS split {self.split}"]

    @staticmethod
    def fetch(root: Path) -> None:
        for train in (True, False):
            (root / "USPS").mkdir(exist_ok=True)
            torchvision_datasets().USPS(str(root / "USPS"), train=train, download=True)

    @staticmethod
    def arrays(root: Path, train: bool) -> tuple[Tensor, Tensor]:
        data = torchvision_datasets().USPS(str(root / "USPS"), train=train, download=False)
        return torch.from_numpy(data.data)[:, None], torch.tensor(data.targets, dtype=torch.int64)


def resplit(train: Split, test: Split, n_test: int) -> tuple[Split, Split]:
    """Both sets pooled and split anew, once and for all; ids number the pool."""
    assert train.y is not None
    assert test.y is not None
    x, y = torch.cat((train.x, test.x)), torch.cat((train.y, test.y))
    kept, held_out = hold_out(len(x), n_test / len(x), torch.Generator().manual_seed(2017))
    pool = Split(x, y, torch.arange(len(x)))
    return pool.take(kept), pool.take(held_out)
