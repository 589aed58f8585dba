"""Metrics of predicted probabilities against labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of rows of ``logits`` (N, K) whose largest entry is at ``y`` (N,)."""
    return (logits.argmax(1) == y).float().mean()


def log_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats, logits (N, K), labels (N,)."""
    return F.cross_entropy(logits.float(), y)


def confusion(predicted: Tensor, y: Tensor, classes: int) -> Tensor:
    """Counts (K, K): row the true class, column the predicted one. Both arguments (N,)."""
    return torch.bincount(y * classes + predicted, minlength=classes**2).view(classes, classes)
