"""A decoder from features back to images, for methods that reconstruct them."""

from __future__ import annotations

from torch import nn


def decoder(features: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """LeNet backwards: features (B, d) to images (B, C, H, W).

    Two convolutions of 5x5, each after upsampling by about two.

    Args:
        features: d.
        shape: (C, H, W) of the images.
    """
    channels, high, wide = shape
    small, middle = (-(-high // 4), -(-wide // 4)), (-(-high // 2), -(-wide // 2))
    return nn.Sequential(
        nn.Linear(features, 50 * small[0] * small[1]),
        nn.ReLU(),
        nn.Unflatten(1, (50, *small)),
        nn.Upsample(middle),
        nn.Conv2d(50, 20, 5, padding=2),
        nn.ReLU(),
        nn.Upsample((high, wide)),
        nn.Conv2d(20, channels, 5, padding=2),
    )
