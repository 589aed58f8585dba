"""How the losses, or the gradients, of several tasks on one network are brought together."""

from __future__ import annotations

import torch
from torch import Tensor


def uncertainty(loss: Tensor, log_variance: Tensor, regression: bool) -> Tensor:
    """A task's loss weighed by its noise: e^-s L + s/2, for a regression 1/2 e^-s L + s/2.

    Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
    Geometry and Semantics", CVPR 2018, eq. 5 and 10, with s = log sigma^2. Below 0 where s is;
    least at e^s = L (regression) and e^s = 2 L (classification).

    Args:
        loss: the task's own, a scalar: cross-entropy, or the mean squared error.
        log_variance: s, a scalar that is learned with the network.
    """
    return (0.5 if regression else 1.0) * torch.exp(-log_variance) * loss + log_variance / 2


def dynamic_weight_average(last: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Weights (T,) of which a task has more whose loss falls slowly: T softmax(r / temperature).

    Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7 (DWA),
    with r = last / before.

    Args:
        last, before: mean losses (T,) of the last epoch and of the one before.
    """
    return len(last) * (last / before / temperature).softmax(0)


def gradnorm(
    weights: Tensor, norms: Tensor, losses: Tensor, first: Tensor, asymmetry: float
) -> Tensor:
    """The loss that the tasks' weights learn from: sum_i |w_i n_i - mean(w n) r_i^asymmetry|.

    Chen, Badrinarayanan, Lee & Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss
    Balancing in Deep Multitask Networks", ICML 2018, eq. 1 and 2. r_i is the share of its first
    loss that a task still has, over the mean share. The target of w_i n_i is a constant, so that
    only ``weights`` (T,) get a gradient from this scalar.

    Args:
        norms: of each task's gradient with respect to the last shared layer, its weight left out.
        losses, first: as they are, and as they were at the first step.
    """
    balanced = weights * norms.detach()
    share = (losses / first).detach()
    target = (balanced.mean() * (share / share.mean()) ** asymmetry).detach()
    return (balanced - target).abs().sum()


def pcgrad(gradients: Tensor, orders: Tensor) -> Tensor:
    """The sum (P,) of T tasks' gradients (T, P), each without what points against another task's.

    Yu, Kumar, Gupta, Levine, Hausman & Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS
    2020, algorithm 1: a gradient is projected onto the normal plane of each original gradient that
    it conflicts with, one after the other.

    Args:
        orders: int64 (T, T): for each task the order in which it meets the others; itself does
            nothing.
    """
    tasks = torch.arange(len(gradients), device=gradients.device)
    squares = gradients.square().sum(1)
    projected = []
    for i in range(len(gradients)):
        own = gradients[i]
        for k in range(len(gradients)):
            j = orders[i, k : k + 1]  # an index on the device, which is not asked for it
            other, square = gradients.index_select(0, j)[0], squares.index_select(0, j)[0]
            along = own @ other
            against = (along < 0) & (tasks.index_select(0, j)[0] != i)
            own = own - torch.where(against, along / square.clamp(min=1e-12), 0.0) * other
        projected.append(own)
    return torch.stack(projected).sum(0)
