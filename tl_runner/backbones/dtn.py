"""The DTN of the digits experiments: three strided convolutions (64, 128, 256), then 512 features.

It goes back to the network of Taigman et al., "Unsupervised cross-domain image generation", ICLR
2017; batch norm and dropout are those of the code of CyCADA (Hoffman et al., ICML 2018), CDAN (Long
et al., NeurIPS 2018) and SHOT (Liang et al., ICML 2020).
"""

from __future__ import annotations

from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.errors import ConfigError


class DTN(Backbone):
    """Images (B, C, H, W) to ReLU features (B, 512).

    Args:
        dropout: of whole channels after the third convolution, and of the features; the first two
            convolutions have a fifth and three fifths of it: 0.1, 0.3, 0.5.

    Raises:
        ConfigError: the images are too small to be halved three times.
    """

    def __init__(self, shape: tuple[int, int, int], *, batch_norm: bool, dropout: float):
        super().__init__()
        channels, *sides = shape
        if min(sides) < 8:
            raise ConfigError(
                [f"backbone=dtn needs images of at least 8x8, not {sides[0]}x{sides[1]}."]
            )
        self.out_features = 512

        def norm(kind: type[nn.Module], width: int) -> list[nn.Module]:
            return [kind(width)] if batch_norm else []

        def halve(into: int, out: int, drop: float) -> list[nn.Module]:
            return [
                nn.Conv2d(into, out, 5, stride=2, padding=2),
                *norm(nn.BatchNorm2d, out),
                nn.Dropout2d(drop),
                nn.ReLU(),
            ]

        high, wide = (-(-s // 8) for s in sides)
        self.layers = nn.Sequential(
            *halve(channels, 64, dropout / 5),
            *halve(64, 128, 3 * dropout / 5),
            *halve(128, 256, dropout),
            nn.Flatten(),
            nn.Linear(256 * high * wide, 512),
            *norm(nn.BatchNorm1d, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
