"""What every backbone is."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images (B, C, H, W) to features (B, ``out_features``)."""

    out_features: int

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)
