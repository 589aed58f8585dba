"""MNIST: 60,000 and 10,000 handwritten digits, 28x28, in a box of 20x20 (LeCun et al. 1998)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from tl_runner.data.domain import Downloaded, torchvision_datasets


class MNIST(Downloaded):
    """MNIST's digits, (N, 1, 28, 28)."""

    title = "MNIST"
    files = (
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"),
        ("MNIST/raw/t10k-images-idx3-ubyte", "MNIST/raw/t10k-labels-idx1-ubyte"),
    )
    sizes = (60_000, 10_000)

    @staticmethod
    def fetch(root: Path) -> None:
        torchvision_datasets().MNIST(str(root), download=True)

    @staticmethod
    def arrays(root: Path, train: bool) -> tuple[Tensor, Tensor]:
        data = torchvision_datasets().MNIST(str(root), train=train, download=False)
        if data.data.shape[1:] != (28, 28):
            raise ValueError(f"images of {tuple(data.data.shape[1:])}, not 28x28")
        return data.data[:, None], data.targets.long()
