"""CDAN: conditional adversarial adaptation. The discriminator sees features and predictions
together, multiplied out.

Long, Cao, Wang & Jordan, "Conditional Adversarial Domain Adaptation", NeurIPS 2018, section 3. The
predictions carry no gradient into the map; where it would have more than 4,096 entries it is a
random projection of itself. With ``entropy`` (CDAN+E) every sample weighs 1 + exp(-H), sure
predictions more, each domain's weights with mean 1. The domain loss is a mean over both domains, as
DANN's.
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
from tl_runner.losses.conditional import RandomisedMap, entropy_weights, multilinear_map
from tl_runner.methods.adaptation._base import SharedEncoder, mlp

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tl_runner.methods.adaptation._base import Layers
    from tl_runner.methods.batch import Batch, Losses, Metrics
    from tl_runner.methods.setting import Setting

LARGEST = 4096  # entries of the exact map (the paper's section 3)


class Cdan(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the reversed gradient at the end of the phase; it rises from 0 as DANN's.
        hidden: units of the discriminator's two hidden layers.
        entropy: CDAN+E.
        random_map: width of the random projection; null is the paper's rule (1,024 above 4,096
            entries, else the exact map), 0 always the exact map.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        weight: float,
        hidden: int,
        entropy: bool,
        random_map: int | None,
        **phases: Any,
    ):
        super().__init__(setting, **phases)
        self.weight, self.entropy, self.couples = weight, entropy, entropy
        features, classes = self.encoder.out_features, setting.num_classes
        width = (
            random_map if random_map is not None else (1024 if features * classes > LARGEST else 0)
        )
        self.map = (
            self.fresh("random_map", lambda: RandomisedMap(features, classes, width))
            if width
            else None
        )
        self.discriminator = self.fresh(
            "discriminator", lambda: mlp(width or features * classes, hidden, hidden, 1)
        )

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.discriminator]

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """Loss of eq. 5, or with entropy conditioning eq. 7, minimised by all at once thanks to the
        reversal."""
        at = self.activations(batch)
        scale = self.weight * adaptation_factor(progress)
        weights = (
            [entropy_weights(layers["logits"], scale) for layers in (at.source, at.target)]
            if self.entropy
            else []
        )
        source, target = (
            self.discriminator(reverse_gradient(self.joint(layers), scale))
            for layers in (at.source, at.target)
        )
        losses = {
            "cross_entropy": at.cross_entropy,
            "domain": discriminator_loss(source, target, *weights),
        }
        return losses, {
            "discriminator_accuracy": discriminator_accuracy(source, target),
            "lambda": torch.full_like(at.cross_entropy, scale),
        }

    def joint(self, layers: Layers) -> Tensor:
        """Features (B, d) times predictions (B, K) without a gradient: (B, K d), or a random
        projection of it."""
        features, probabilities = layers["features"], layers["logits"].detach().softmax(1)
        combine = self.map or multilinear_map
        return combine(features, probabilities)
