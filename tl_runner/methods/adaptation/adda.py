"""ADDA: adversarial discriminative domain adaptation.

Tzeng, Hoffman, Saenko & Darrell, "Adversarial Discriminative Domain Adaptation", CVPR 2017, eq. 9.

The source encoder and the head are trained on the source and then frozen. The target encoder starts
as a copy of the source's; a discriminator learns to tell source codes from target codes, and the
target encoder to make its codes pass for source codes. No target label is used. The target
classifier is the target encoder under the source's head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import one_of
from tl_runner.losses.adversarial import (
    discriminator_accuracy,
    discriminator_loss,
    inverted_label_loss,
)
from tl_runner.methods.adaptation._base import mlp
from tl_runner.methods.adaptation._target_encoder import TargetEncoder
from tl_runner.methods.phases import Gate, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from tl_runner.methods.batch import Batch, Losses, Metrics
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Adda(TargetEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        pretrain: lengths and optimiser of the source classifier.
        adapt: lengths, the target encoder's and the discriminator's optimisers, ``gate`` and
            ``gate_window``: the encoder's weights stay as they are (its batch-norm statistics still
            follow the target's batches) while the discriminator's accuracy is not above the gate,
            and the phase ends after an epoch in which they stayed throughout (Hoffman et al.,
            CyCADA 2018, trained it above 0.6).
        discriminator_input: ``logits`` or ``features``.
        hidden: units of the discriminator's two hidden layers.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        pretrain: Mapping[str, Any],
        adapt: Mapping[str, Any],
        discriminator_input: str,
        hidden: int,
    ):
        super().__init__(setting, pretrain=pretrain, adapt=adapt)
        one_of("method.discriminator_input", discriminator_input, ("logits", "features"))
        self.on_logits = discriminator_input == "logits"
        width = setting.num_classes if self.on_logits else self.encoder.out_features
        self.discriminator = self.fresh("discriminator", lambda: mlp(width, hidden, hidden, 1))

    def code(self, encoder: nn.Module, x: Tensor) -> Tensor:
        """Input of the discriminator for images (B, C, H, W): logits (B, K) or features (B, d)."""
        return self.head(encoder(x)) if self.on_logits else encoder(x)

    def discriminate(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """Loss of the discriminator that tells source codes from target codes (eq. 9, line 2).

        batch.source.x and batch.target.x, (B, C, H, W); the codes carry no gradient.
        """
        with torch.no_grad():
            codes = (
                self.code(self.encoder, batch.source.x),
                self.code(self.target_encoder, batch.target.x),
            )
        source, target = self.discriminator(torch.cat(codes)).split([len(c) for c in codes])
        accuracy = discriminator_accuracy(source, target)
        return {"discriminator": discriminator_loss(source, target)}, {
            "discriminator_accuracy": accuracy
        }

    def fool(self, batch: Batch, progress: float) -> Losses:
        """Loss of the target encoder: its codes are to pass for the source's (eq. 9, line 3).

        batch.target.x, (B, C, H, W); labelled target images, if any, are classified as well.
        """
        fooled = inverted_label_loss(
            self.discriminator(self.code(self.target_encoder, batch.target.x))
        )
        return {"encoder": fooled, **self.labelled_cross_entropy(batch)}

    def phases(self) -> list[Phase]:
        options = self.adapt
        gate = (
            Gate("discriminator_accuracy", options["gate"], options["gate_window"])
            if options["gate"]
            else None
        )
        updates = [
            Update(
                "discriminator",
                [self.discriminator],
                options["discriminator_optimizer"],
                self.discriminate,
            ),
            Update(
                "target_encoder", [self.target_encoder], options["optimizer"], self.fool, gate=gate
            ),
        ]
        return self.adapting(
            updates, self.reads(source="source_train", target="target_train"), diagnose=collapse
        )


def collapse(means: Mapping[str, float]) -> str | None:
    """Advice for when the discriminator has won, so that its gradient vanishes; else None."""
    if means["discriminator_accuracy"] < 0.98 or means["discriminator"] > 0.1:
        return None
    return (
        f"the discriminator is right on {means['discriminator_accuracy']:.1%} of the samples, so "
        "the target encoder learns little. Try a lower method.adapt.discriminator_optimizer.lr, "
        "a smaller method.hidden, or backbone.batch_norm=true."
    )
