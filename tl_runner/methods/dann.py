"""DANN: domain-adversarial training. A reversed gradient makes the features useless to a domain discriminator.

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand & Lempitsky, "Domain-Adversarial Training of Neural Networks",
JMLR 2016, sections 4.2 and 5.2.2: the reversal scales the gradient into the encoder by lambda_p = 2 / (1 + exp(-10 p)) - 1, p the progress
of the phase; the discriminator itself learns at full rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tl_runner.losses.adversarial import adaptation_factor, discriminator_accuracy, discriminator_loss, reverse_gradient
from tl_runner.methods.adaptation import Activations, Layers, SharedEncoder, mlp
from tl_runner.methods.base import Batch, Losses, Metrics, Setting


class Dann(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the reversed gradient at the end of the phase; it rises from 0.
        hidden: units of the discriminator's two hidden layers.
    """

    def __init__(self, setting: Setting, *, weight: float, hidden: int, **phases: Any):
        super().__init__(setting, **phases)
        self.weight = weight
        self.discriminator = self.fresh("discriminator", lambda: mlp(self.encoder.out_features, hidden, hidden, 1))

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.discriminator]

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        return adversarial(self.activations(batch), self.judged, self.weight * adaptation_factor(progress))

    def judged(self, layers: Layers, scale: float) -> Tensor:
        """The discriminator's logits (B, 1) for one domain's features."""
        return self.discriminator(reverse_gradient(layers["features"], scale))


def adversarial(at: Activations, judged: Callable[[Layers, float], Tensor], scale: float, *weights: Tensor) -> tuple[Losses, Metrics]:
    """The classification loss and the discriminator's, whose gradient into the encoder is reversed times ``scale``.

    Args:
        judged: a domain's activations and ``scale`` to the discriminator's logits (B, 1).
        weights: of the source's and of the target's samples, (B_s,) and (B_t,); without them all weigh the same.
    """
    source, target = judged(at.source, scale), judged(at.target, scale)
    losses = {"cross_entropy": at.cross_entropy, "domain": discriminator_loss(source, target, *weights)}
    return losses, {"discriminator_accuracy": discriminator_accuracy(source, target), "lambda": source.new_full((), scale)}
