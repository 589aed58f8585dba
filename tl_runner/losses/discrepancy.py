"""Disagreement of two classifiers on the same samples."""

from __future__ import annotations

from torch import Tensor

from tl_runner.losses.precision import full_precision


def classifier_discrepancy(logits1: Tensor, logits2: Tensor) -> Tensor:
    """Mean over batch and classes of |p1 - p2|, p the heads' probabilities: 0 where they agree, 2 /
    K where sure of different classes.

    Saito et al., "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation" (MCD), CVPR
    2018: the discrepancy loss of section 3.

    Args:
        logits1, logits2: of two heads for the same samples, (B, K) each.

    Returns:
        A scalar.
    """
    return (full_precision(logits1).softmax(1) - full_precision(logits2).softmax(1)).abs().mean()
