"""A domain discriminator conditioned on the predictions (CDAN): its input and its weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.losses.adversarial import reverse_gradient
from tl_runner.losses.precision import full_precision


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
