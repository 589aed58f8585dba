"""Losses between an encoder and a domain discriminator (binary, one logit; source = 1, target =
0)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def multilinear_map(features: Tensor, probabilities: Tensor) -> Tensor:
    """Each sample's outer product of probabilities and features, for a discriminator conditioned on
    the prediction.

    Long et al., "Conditional Adversarial Domain Adaptation" (CDAN), NeurIPS 2018, section 3. Entry
    k d + i is p_k f_i: the features weighted by the first class come first, as in the authors'
    code. Gradients pass to both arguments; CDAN gives detached probabilities, so that the
    discriminator does not train the classifier.

    Args:
        features: (B, d).
        probabilities: (B, K).

    Returns:
        (B, K d).
    """
    return (probabilities.unsqueeze(2) * features.unsqueeze(1)).flatten(1)


class RandomisedMap(nn.Module):
    """:func:`multilinear_map` at a fixed width: (R_f f) * (R_g g) / sqrt(width) with Gaussian R_f,
    R_g that are never trained.

    CDAN section 3; the authors take it, 1024 wide, where K d > 4096. On average over the draws of
    R_f and R_g its inner products are those of the exact map. The matrices are buffers, saved with
    the weights: a discriminator is worth nothing with others.

    Args:
        features, classes: d and K.
        width: of the result.
    """

    def __init__(self, features: int, classes: int, width: int):
        super().__init__()
        self.feature_matrix: Tensor
        self.class_matrix: Tensor
        self.register_buffer("feature_matrix", torch.randn(features, width))
        self.register_buffer("class_matrix", torch.randn(classes, width))

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """(B, d), (B, K) -> (B, width); as for :func:`multilinear_map`, CDAN gives detached
        probabilities."""
        width = self.feature_matrix.shape[1]
        return (
            (features @ self.feature_matrix)
            * (probabilities @ self.class_matrix)
            / math.sqrt(width)
        )


def entropy_weights(logits: Tensor, scale: float | Tensor) -> Tensor:
    """CDAN+E's weights 1 + exp(-H) of samples by the entropy H of their prediction, divided by
    their mean over the batch.

    For :func:`discriminator_loss`; one call a domain. As in the authors' code the mean carries no
    gradient, and that of the entropy is reversed and scaled, for it is the classifier's and the
    encoder's, which play against the discriminator.

    Args:
        logits: the classifier's for samples of one domain, (B, K).
        scale: of the reversed gradient, as for :func:`reverse_gradient`.

    Returns:
        (B,), mean 1.
    """
    logits = full_precision(logits)
    entropy = F.cross_entropy(logits, logits.softmax(dim=1), reduction="none")
    weights = 1 + torch.exp(-reverse_gradient(entropy, scale))
    return weights / weights.mean().detach()
