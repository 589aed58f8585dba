"""DRCN: deep reconstruction-classification network. The encoder that classifies the source also has
to reconstruct the target.

Ghifary, Kleijn, Zhang, Balduzzi & Li, "Deep Reconstruction-Classification Networks for Unsupervised
Domain Adaptation", ECCV 2016, algorithm 1: classify source images, restore target images from noisy
ones. Here the two alternate at every step, in the authors' code at every pass over the data; and
the paper's lambda, a factor on their learning rates, is a rate for each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from tl_runner.backbones._decoder import decoder
from tl_runner.methods.adaptation._base import SharedEncoder
from tl_runner.methods.batch import Batch
from tl_runner.methods.phases import Update

if TYPE_CHECKING:
    from tl_runner.methods.batch import Losses
    from tl_runner.methods.setting import Setting


class Drcn(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        noise: share of the target's pixels that are set to 0 before they are to be restored.
    """

    def __init__(self, setting: Setting, *, noise: float, **phases: Any):
        super().__init__(setting, **phases)
        self.noise = noise
        self.decoder = self.fresh(
            "decoder", lambda: decoder(self.encoder.out_features, setting.shape)
        )

    def updates(self) -> list[Update]:
        return [
            Update("classifier", [self.encoder, self.head], self.adapt["optimizer"], self.step),
            Update(
                "autoencoder",
                [self.encoder, self.decoder],
                self.adapt["reconstruction_optimizer"],
                self.reconstruct,
            ),
        ]

    def step(self, batch: Batch, progress: float) -> Losses:
        """Classification loss of batch.source, and of labelled target images if there are any."""
        logits = {
            domain: self.head(f) for domain, f in self.encode(batch, "source", "labelled").items()
        }
        return {"cross_entropy": self.cross_entropy(logits, batch)}

    def reconstruct(self, batch: Batch, progress: float) -> Losses:
        """Mean squared error of a pixel of batch.target.x, (B, C, H, W), restored from a noisy
        copy."""
        clean = batch.target.x
        noisy = replace(batch.target, x=clean * (torch.rand_like(clean) >= self.noise))
        restored = self.decoder(
            self.encode(Batch(**{**vars(batch), "target": noisy}), "target")["target"]
        )
        return {"reconstruction": F.mse_loss(restored, clean)}
