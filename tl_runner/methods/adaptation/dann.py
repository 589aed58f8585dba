"""DANN: domain-adversarial training. A reversed gradient makes the features useless to a domain
discriminator.

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand & Lempitsky, "Domain-Adversarial
Training of Neural Networks", JMLR 2016, sections 4.2 and 5.2.2: the reversal scales the gradient
into the encoder by lambda_p = 2 / (1 + exp(-10 p)) - 1, p the progress of the phase; the
discriminator itself learns at full rate. The domain loss is a mean over both domains, as in
published code, so weight 1 is lambda = 1/2 of the paper's eq. 9, which adds the two domains' means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.losses.adversarial import (
    adaptation_factor,
    discriminator_accuracy,
    discriminator_loss,
    reverse_gradient,
)
from tl_runner.methods.adaptation._base import SharedEncoder, mlp

if TYPE_CHECKING:
    from torch import nn

    from tl_runner.methods.batch import Batch, Losses, Metrics
    from tl_runner.methods.setting import Setting


class Dann(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the reversed gradient at the end of the phase; it rises from 0.
        hidden: units of the discriminator's two hidden layers.
    """

    estimated_by = ("atc", "doc")

    def __init__(self, setting: Setting, *, weight: float, hidden: int, **phases: Any):
        super().__init__(setting, **phases)
        self.weight = weight
        self.discriminator = self.fresh(
            "discriminator", lambda: mlp(self.encoder.out_features, hidden, hidden, 1)
        )

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.discriminator]

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """Loss of eq. 9, minimised by all at once thanks to the reversal (eq. 18)."""
        at = self.activations(batch)
        scale = self.weight * adaptation_factor(progress)  # lambda_p
        source, target = (
            self.discriminator(reverse_gradient(layers["features"], scale))
            for layers in (at.source, at.target)
        )
        losses = {
            "cross_entropy": at.cross_entropy,
            "domain": discriminator_loss(source, target),
        }
        return losses, {
            "discriminator_accuracy": discriminator_accuracy(source, target),
            "lambda": torch.full_like(at.cross_entropy, scale),
        }
