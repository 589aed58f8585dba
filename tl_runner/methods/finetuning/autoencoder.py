"""An autoencoder as feature extractor: the encoder learns to restore target images without any
label, then a linear probe.

Vincent, Larochelle, Bengio & Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", ICML 2008.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from tl_runner.backbones._decoder import decoder
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._feature_selection import FeatureSelection
from tl_runner.methods.phases import Phase, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class Autoencoder(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``reconstruct`` on unlabelled
    target images; ``probe``.

    Args:
        reconstruct, probe: lengths and optimisers.
        noise: share of the pixels that are set to 0 before they are to be restored.
        select, keep: as a linear probe's.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        reconstruct: Mapping[str, Any],
        noise: float,
        probe: Mapping[str, Any],
        select: str | None,
        keep: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.reconstruct, self.noise, self.probe_options = reconstruct, noise, probe
        self.select = FeatureSelection(select, keep, setting.seed) if select else None
        self.decoder = self.fresh(
            "decoder", lambda: decoder(self.encoder.out_features, setting.shape)
        )

    def phases(self) -> list[Phase]:
        probe = self.probe("probe", self.probe_options, self.select)
        update = Update(
            "autoencoder", [self.encoder, self.decoder], self.reconstruct["optimizer"], self.step
        )
        extractor = Phase.of(
            self.reconstruct,
            name="reconstruct",
            reads={"target": "target_train"},
            updates=[update],
            outputs=replace(probe.outputs, source_predict=None, domains=(), on_fixed=None),
        )
        return self.after_pretraining(extractor, probe)

    def step(self, batch: Batch, progress: float) -> Losses:
        """Mean squared error of a pixel of batch.target.x, (B, C, H, W), restored from a noisy
        copy."""
        clean = batch.target.x
        noisy = clean * (torch.rand_like(clean) >= self.noise)
        return {"reconstruction": F.mse_loss(self.decoder(self.features(noisy, "target")), clean)}

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return self.select.findings(self.head) if self.select else {}
