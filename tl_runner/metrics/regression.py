"""How far predicted numbers are off."""

from __future__ import annotations

from torch import Tensor


def regression(predicted: Tensor, y: Tensor) -> dict[str, float]:
    """Mean absolute error, root of the mean squared error, and R^2 (1 is perfect, 0 as good as the mean) of (N,) numbers.

    R^2 is left out where all labels are equal.
    """
    error = predicted.double() - y.double()
    found = {"mae": error.abs().mean().item(), "rmse": error.square().mean().sqrt().item()}
    spread = (y.double() - y.double().mean()).square().mean()
    return found | ({"r2": (1 - error.square().mean() / spread).item()} if spread > 0 else {})
