"""Disagreement of two classifiers on the same samples."""

from __future__ import annotations

from torch import Tensor


def classifier_discrepancy(p1: Tensor, p2: Tensor) -> Tensor:
    """Mean over batch and classes of |p1 - p2|: 0 where the heads agree, 2 / K where they are sure of different classes.

    Saito et al., "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation" (MCD), CVPR 2018: the discrepancy loss
    of section 3.

    Args:
        p1, p2: probabilities (not logits) of two heads for the same samples, (B, K) each.

    Returns:
        A scalar.
    """
    return (p1 - p2).abs().mean()
