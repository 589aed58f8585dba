"""What stands between a picture in [0, 1] and a published network: size, mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# of ImageNet's pixels, which most published weights expect
MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Pixels(nn.Module):
    """Pictures (B, C, H, W) in [0, 1], grey ones in three channels, to what a network expects.

    Mean and deviation are part of the state, so that a run's weights bring their own.

    Args:
        mean, std: of each channel, of pixels in [0, 1].
        size: height and width that the network takes; None: any.
        interpolation: ``bicubic`` or ``bilinear``, with antialiasing. Bicubic goes beyond what a
            pixel may be where an edge is sharp, by 0.07 and more; what does is cut, as in a
            picture of bytes.
    """

    def __init__(
        self,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        size: tuple[int, int] | None = None,
        interpolation: str = "bicubic",
    ):
        super().__init__()
        self.size, self.interpolation = size, interpolation
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, len(self.mean), -1, -1) if x.shape[1] == 1 else x
        if self.size and x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=True).clamp(0, 1)
        return (x - self.mean) / self.std

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """As ever, and where a state has no mean and deviation, those that are there stay."""
        for name in ("mean", "std"):
            state.setdefault(f"{prefix}{name}", getattr(self, name))
        super()._load_from_state_dict(state, prefix, *rest)
