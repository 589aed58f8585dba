"""LeNet as the domain-adaptation papers use it (the Caffe one).

Two convolutions of 20 and 50 filters of 5x5, then 500 features.

LeCun et al., "Gradient-based learning applied to document recognition", 1998; the widths are
Caffe's.
"""

from __future__ import annotations

from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.errors import ConfigError


class LeNet(Backbone):
    """Images (B, C, 28, 28) to ReLU features (B, 500).

    Raises:
        ConfigError: the images are too small for its two convolutions.
    """

    def __init__(self, shape: tuple[int, int, int], *, batch_norm: bool, dropout: float):
        super().__init__()
        channels, *sides = shape
        high, wide = (((s - 4) // 2 - 4) // 2 for s in sides)
        if min(high, wide) < 1:
            raise ConfigError(
                [f"backbone=lenet needs images of at least 16x16, not {sides[0]}x{sides[1]}."]
            )
        self.out_features = 500

        def norm(kind: type[nn.Module], width: int) -> list[nn.Module]:
            return [kind(width)] if batch_norm else []

        # pooling before the ReLU gives the same values and a quarter of the work
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            *norm(nn.BatchNorm2d, 20),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(20, 50, 5),
            *norm(nn.BatchNorm2d, 50),
            nn.Dropout2d(dropout),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(50 * high * wide, 500),
            *norm(nn.BatchNorm1d, 500),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
