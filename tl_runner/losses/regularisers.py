"""What keeps a fine-tuned network near the one that it started from, or its features useful."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tl_runner.losses.precision import full_precision


def l2_sp(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """1/2 sum ||w - w0||^2: weights are drawn to where they started, not to 0.

    Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018, eq. 2, without
    its factor alpha.

    Args:
        weights, start: of the transferred layers, pairs of one shape; ``start`` gets no gradient.
    """
    return 0.5 * torch.stack([(w - w0.detach()).square().sum() for w, w0 in zip(weights, start, strict=True)]).sum()


def l1_sp(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """sum |w - w0|: as :func:`l2_sp`, but sparse, so that many weights stay where they started. The same paper, section 3 (L1-SP)."""
    return torch.stack([(w - w0.detach()).abs().sum() for w, w0 in zip(weights, start, strict=True)]).sum()


def batch_spectral_shrinkage(features: Tensor, smallest: int = 1) -> Tensor:
    """Sum of the squares of a feature matrix's smallest singular values: directions that hardly transfer are damped.

    Chen, Wang, Fu, Long & Wang, "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer
    Learning" (BSS), NeurIPS 2019, section 4.

    Args:
        features: of one batch, (B, d).
        smallest: k, how many singular values.
    """
    with torch.autocast(features.device.type, enabled=False):
        return torch.linalg.svdvals(full_precision(features))[-smallest:].square().sum()
