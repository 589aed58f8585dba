"""SHOT: source hypothesis transfer. The source's head stays; a target encoder learns from its own
sure and varied predictions.

Liang, Hu & Feng, "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
Unsupervised Domain Adaptation", ICML 2020, eq. 2-7. The adapt phase reads target images alone.
Every epoch starts with new pseudo-labels from the centroids of the target's features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from tl_runner.losses.self_training import centroid_pseudo_labels, information_maximisation
from tl_runner.methods.adaptation._target_encoder import TargetEncoder
from tl_runner.methods.phases import Update

if TYPE_CHECKING:
    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Shot(TargetEncoder):
    """Two phases: ``pretrain`` (with label smoothing, eq. 1) and ``adapt``.

    Args:
        pseudo_weight: beta, of the cross-entropy against the pseudo-labels; 0 is SHOT-IM.
    """

    def __init__(self, setting: Setting, *, pseudo_weight: float, **phases: Any):
        super().__init__(setting, **phases)
        self.pseudo_weight = pseudo_weight

    def phases(self) -> list[Phase]:
        update = Update(
            "target_encoder",
            [self.target_encoder],
            self.adapt["optimizer"],
            self.step,
            couples=True,
        )
        return self.adapting(
            [update],
            self.reads(target="target_train"),
            each_epoch=self.pseudo_labels if self.pseudo_weight else None,
        )

    def pseudo_labels(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Pseudo-labels of all target images, int64 (N,), as an epoch begins (eq. 4-6)."""
        features = passes(self.target_encoder, "target")
        return {"pseudo_labels": centroid_pseudo_labels(features, self.head(features).softmax(1))}

    def step(self, batch: Batch, progress: float) -> Losses:
        """Loss of eq. 7 on batch.target.x, (B, C, H, W), and the epoch's pseudo-labels, (N,)."""
        logits = self.head(self.target_encoder(batch.target.x))
        entropy, diversity = information_maximisation(logits)
        losses = {
            "mean_entropy": entropy,
            "diversity": -diversity,
            **self.labelled_cross_entropy(batch),
        }
        if self.pseudo_weight:
            losses["pseudo_labels"] = self.pseudo_weight * F.cross_entropy(
                logits, batch.precomputed["pseudo_labels"][batch.target.index]
            )
        return losses
