"""Errors of predicted numbers."""

from __future__ import annotations

from torch import Tensor


def regression(predicted: Tensor, y: Tensor) -> dict[str, float]:
    """RMSE, mean absolute error and R^2 of (N,) numbers.

    R^2 is 1 where the prediction is perfect and 0 where it is as good as the mean.

    R^2 is left out where all labels are equal.
    """
    error = predicted.double() - y.double()
    found = {"rmse": error.square().mean().sqrt().item(), "mae": error.abs().mean().item()}
    spread = (y.double() - y.double().mean()).square().mean()
    return found | ({"r2": (1 - error.square().mean() / spread).item()} if spread > 0 else {})
