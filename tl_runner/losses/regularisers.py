"""What keeps a fine-tuned network near the one that it started from, or its features useful."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tl_runner.losses.precision import full_precision


def l2_sp(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """1/2 sum ||w - w0||^2: weights are drawn to where they started, not to 0.

    Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional
    Networks", ICML 2018, eq. 2, without its factor alpha.

    Args:
        weights, start: of the transferred layers, pairs of one shape; ``start`` gets no gradient.
    """
    return (
        0.5
        * torch.stack(
            [(w - w0.detach()).square().sum() for w, w0 in zip(weights, start, strict=True)]
        ).sum()
    )


def l1_sp(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """sum |w - w0|: as :func:`l2_sp`, but sparse, so that many weights stay where they started. The
    same paper, section 3 (L1-SP)."""
    return torch.stack(
        [(w - w0.detach()).abs().sum() for w, w0 in zip(weights, start, strict=True)]
    ).sum()


def feature_map_distance(maps: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """1/2 sum_j w_j C ||m_j - m0_j||^2 / P over a layer's channels, a mean over the batch: maps are
    drawn to the start's.

    Li et al., "DELTA: DEep Learning Transfer using Feature Map with Attention for Convolutional
    Networks", ICLR 2019, eq. 4, where the authors' code divides by the P positions of a map and
    multiplies with the C channels; with equal weights a sum over channels of mean squares.

    Args:
        maps, start: (B, C, ...), ``start`` of the network that was the start; it gets no gradient.
        weights: of the channels, (C,), their sum 1.
    """
    b, c = maps.shape[:2]
    squares = (maps - start.detach()).float().square().reshape(b, c, -1).mean((0, 2))
    return 0.5 * c * (weights * squares).sum()


def batch_spectral_shrinkage(features: Tensor, smallest: int = 1) -> Tensor:
    """Sum of the squares of a feature matrix's smallest singular values: directions that hardly
    transfer are damped.

    Chen, Wang, Fu, Long & Wang, "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
    Shrinkage for Safe Transfer Learning" (BSS), NeurIPS 2019, section 4.

    Args:
        features: of one batch, (B, d).
        smallest: k, how many singular values.
    """
    with torch.autocast(features.device.type, enabled=False):
        return torch.linalg.svdvals(full_precision(features))[-smallest:].square().sum()
