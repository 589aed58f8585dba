"""Correlation alignment (CORAL): the distance between the second-order statistics of source and
target."""

from __future__ import annotations

import torch
from torch import Tensor

from tl_runner.losses.precision import full_precision


def coral(source: Tensor, target: Tensor) -> Tensor:
    """||C_S - C_T||_F^2 / (4 d^2) of the covariances C; blind to the means.

    Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops
    2016, eq. 1-3 (the covariances over n - 1). Some published code returns four times this, or adds
    a distance of the means: weights do not carry over.

    Args:
        source, target: activations of one layer, (B_s, d) and (B_t, d); the sizes may differ.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two samples in a domain.
    """
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"CORAL needs two samples of each domain; got {len(source)} of the source, "
            f"{len(target)} of the target"
        )
    return (_covariance(source) - _covariance(target)).square().mean() / 4


def _covariance(x: Tensor) -> Tensor:
    """(n, d) -> (d, d), over n - 1, in float32 at least."""
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        centred = x - x.mean(dim=0)
        return centred.T @ centred / (len(x) - 1)
