"""No network: an image's own numbers are its features."""

from __future__ import annotations

from math import prod

from torch import Tensor

from tl_runner.backbones._base import Backbone


class Raw(Backbone):
    """Images (B, C, H, W) to their pixels in [0, 1], or vectors as they are, (B, C * H * W)."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.out_features = prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)
