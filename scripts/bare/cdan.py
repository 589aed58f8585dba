"""CDAN, with or without entropy weights: a discriminator of features and predictions."""

from __future__ import annotations

from torch import Tensor

from bare._loop import Bare, Ground, joint
from tl_runner.losses.adversarial import adaptation_factor, discriminator_loss, reverse_gradient
from tl_runner.losses.conditional import entropy_weights, multilinear_map


def bare(ground: Ground) -> Bare:
    discriminator, weight = ground.method.discriminator, ground.options["weight"]
    combine, entropy = ground.method.map or multilinear_map, ground.options["entropy"]

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        scale = weight * adaptation_factor(progress)
        judged = discriminator(
            reverse_gradient(combine(features, logits.detach().softmax(1)), scale)
        )
        weights = [entropy_weights(part, scale) for part in logits.chunk(2)] if entropy else []
        return discriminator_loss(*judged.chunk(2), *weights)

    return joint(ground, transfer, discriminator)
