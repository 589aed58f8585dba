"""ADDA: a target encoder against a discriminator of the codes, with inverted labels."""

from __future__ import annotations

import torch

from bare._loop import Bare, Ground, Learner
from tl_runner.losses.adversarial import discriminator_loss, inverted_label_loss
from tl_runner.methods.batch import Samples

OVERRIDES = ("method.adapt.gate=0",)  # the target encoder trains in every step


def bare(ground: Ground) -> Bare:
    source_encoder, encoder, head = (
        ground.method.encoder,
        ground.method.target_encoder,
        ground.method.head,
    )
    discriminator = ground.method.discriminator
    of_discriminator, of_encoder = (
        Learner(ground, [discriminator], "discriminator_optimizer"),
        Learner(ground, [encoder]),
    )

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            with torch.no_grad():
                codes = torch.cat([head(source_encoder(source.x)), head(encoder(target.x))])
            loss = discriminator_loss(*discriminator(codes).chunk(2))
        of_discriminator.descend(loss, progress)
        discriminator.requires_grad_(False)
        with ground.device.autocast():
            loss = inverted_label_loss(discriminator(head(encoder(target.x))))
        of_encoder.descend(loss, progress)
        discriminator.requires_grad_(True)

    return Bare(step, [encoder, discriminator])
