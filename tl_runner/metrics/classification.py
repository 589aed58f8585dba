"""Metrics of logits against labels, on the device, for every epoch of a run.

Those of the finished run are in ``evaluation_report``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of rows of ``logits`` (N, K) whose largest entry is at ``y`` (N,).

    A count over N in float64, on the CPU.
    """
    return (logits.argmax(1) == y).sum().cpu().double() / len(y)


def log_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats, logits (N, K), labels (N,)."""
    return F.cross_entropy(logits.float(), y)
