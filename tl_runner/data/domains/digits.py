"""scikit-learn's copy of the UCI handwritten digits, 1,200 and 597. No files.

Alpaydin & Kaynak, 1998.
"""

from __future__ import annotations

from pathlib import Path

from tl_runner.data.domain import Domain
from tl_runner.data.rendered import handwritten_split
from tl_runner.data.splits import Split


class Digits(Domain):
    """UCI digits, (N, 1, 28, 28): 8x8, resized into the middle as MNIST is."""

    title = "UCI"

    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        return *handwritten_split(), {}
