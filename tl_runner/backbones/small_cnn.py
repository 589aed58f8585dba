"""Small CNN of the textbooks: two convolutions (32, 64) and 128 features.

For small pictures such as CIFAR-10's.
"""

from __future__ import annotations

from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.errors import ConfigError


class SmallCNN(Backbone):
    """Images (B, C, H, W) to ReLU features (B, 128).

    Args:
        dropout: of the features.

    Raises:
        ConfigError: the images are too small to be halved twice.
    """

    def __init__(self, shape: tuple[int, int, int], *, batch_norm: bool, dropout: float):
        super().__init__()
        channels, high, wide = shape
        if min(high, wide) < 4:
            raise ConfigError(
                [f"backbone=small_cnn needs images of at least 4x4, not {high}x{wide}."]
            )
        self.out_features = 128

        def norm(kind: type[nn.Module], width: int) -> list[nn.Module]:
            return [kind(width)] if batch_norm else []

        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            *norm(nn.BatchNorm2d, 32),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            *norm(nn.BatchNorm2d, 64),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (high // 4) * (wide // 4), 128),
            *norm(nn.BatchNorm1d, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
