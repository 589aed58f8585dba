"""Losses between an encoder and a domain discriminator (one logit; source = 1, target = 0)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.losses.precision import full_precision


def discriminator_loss(
    source: Tensor,
    target: Tensor,
    source_weight: Tensor | None = None,
    target_weight: Tensor | None = None,
) -> Tensor:
    """Tell source from target: -E_s log D(s) - E_t log(1 - D(t)), halved so that chance is log 2 =
    0.693.

    ADDA (Tzeng et al. 2017) eq. 7, the first line of eq. 9. With weights the expectations are
    weighted ones, as in CDAN+E.

    Args:
        source, target: discriminator logits, (B_s, 1) and (B_t, 1); the sizes may differ.
        source_weight, target_weight: of each sample, mean 1 over its domain, (B_s,) and (B_t,);
            None weighs all the same.
    """
    return 0.5 * (
        _mean(F.softplus(-full_precision(source)), source_weight)
        + _mean(F.softplus(full_precision(target)), target_weight)
    )


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    return losses.mean() if weight is None else (weight * losses.squeeze(1)).mean()


def inverted_label_loss(target: Tensor) -> Tensor:
    """The encoder's side with inverted labels: -E_t log D(t). ADDA eq. 8, the second line of eq. 9.

    Unlike a reversed gradient (which maximises the discriminator's own loss) it does not vanish
    where the discriminator is sure: its slope at a logit z is -sigmoid(-z).

    Args:
        target: discriminator logits of target samples, (B_t, 1).
    """
    return F.softplus(-full_precision(target)).mean()


def discriminator_accuracy(source: Tensor, target: Tensor) -> Tensor:
    """Share of samples on the right side of logit 0, the domains weighing the same; chance is 0.5.
    A scalar tensor."""
    with torch.no_grad():
        return 0.5 * ((source > 0).float().mean() + (target <= 0).float().mean())


def reverse_gradient(x: Tensor, scale: float | Tensor) -> Tensor:
    """x itself, whose gradient on the way back is multiplied by -scale.

    Put between encoder and discriminator, one minimisation trains the discriminator at full weight
    and the encoder against it. Ganin et al., "Domain-Adversarial Training of Neural Networks"
    (DANN), JMLR 2016, section 4.2.

    Args:
        x: any shape.
        scale: lambda, see :func:`adaptation_factor`; a scalar, gets no gradient.
    """
    return _ReverseGradient.apply(x, scale)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float | Tensor) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def adaptation_factor(progress: float, gamma: float = 10.0) -> float:
    """DANN's lambda_p = 2 / (1 + exp(-gamma p)) - 1, from 0 up to nearly 1 (JMLR 2016, section
    5.2.2).

    Args:
        progress: p, the share of all steps of the phase (not of an epoch) that is done, in [0, 1].
        gamma: steepness.
    """
    return 2.0 / (1.0 + math.exp(-gamma * progress)) - 1.0
