"""An autoencoder as feature extractor: the encoder learns to restore target images without any
label, then a linear probe.

Vincent, Larochelle, Bengio & Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", ICML 2008.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from tl_runner.backbones._decoder import decoder
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Batch, Losses
from tl_runner.methods.finetuning.linear_probe import LinearProbe
from tl_runner.methods.phases import Phase, Update


class Autoencoder(LinearProbe):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``reconstruct`` on unlabelled
    target images; ``probe``.

    Args:
        reconstruct: lengths and optimiser.
        noise: share of the pixels that are set to 0 before they are to be restored.
    """

    def __init__(
        self, setting: Setting, *, reconstruct: Mapping[str, Any], noise: float, **options: Any
    ):
        super().__init__(setting, **options)
        self.reconstruct, self.noise = reconstruct, noise
        self.decoder = self.fresh(
            "decoder", lambda: decoder(self.encoder.out_features, setting.shape)
        )

    def phases(self) -> list[Phase]:
        probe = self.probing()
        update = Update(
            "autoencoder", [self.encoder, self.decoder], self.reconstruct["optimizer"], self.step
        )
        extractor = Phase.of(
            self.reconstruct,
            name="reconstruct",
            reads={"target": "target_train"},
            updates=[update],
            outputs=replace(probe.outputs, source_predict=None, domains=()),
        )
        return self.after_pretraining(extractor, probe)

    def step(self, batch: Batch, progress: float) -> Losses:
        """batch.target.x, float (B, C, H, W), from a noisy copy of itself: the mean squared error
        of a pixel."""
        clean = batch.target.x
        noisy = clean * (torch.rand_like(clean) >= self.noise)
        return {"reconstruction": F.mse_loss(self.decoder(self.features(noisy, "target")), clean)}
