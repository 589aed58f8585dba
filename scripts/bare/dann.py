"""DANN: a discriminator behind a reversed gradient."""

from __future__ import annotations

from torch import Tensor

from bare._loop import Bare, Ground, joint
from tl_runner.losses.adversarial import adaptation_factor, discriminator_loss, reverse_gradient


def bare(ground: Ground) -> Bare:
    discriminator, weight = ground.method.discriminator, ground.options["weight"]

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        judged = discriminator(reverse_gradient(features, weight * adaptation_factor(progress)))
        return discriminator_loss(*judged.chunk(2))

    return joint(ground, transfer, discriminator)
