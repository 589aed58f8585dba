"""Deep CORAL: the covariances of source and target activations are made equal.

Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016,
eq. 1-6: no term for the means, a constant weight at which both losses end about equal, on the
logits by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import one_of
from tl_runner.losses.coral import coral
from tl_runner.methods.adaptation._base import LAYERS, SharedEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class DeepCoral(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the CORAL loss, constant.
        layers: whose losses are added up: ``features``, ``logits``.
    """

    couples = True

    def __init__(self, setting: Setting, *, weight: float, layers: Sequence[str], **phases: Any):
        super().__init__(setting, **phases)
        for layer in layers:
            one_of("method.layers", layer, LAYERS)
        self.weight, self.layers = weight, layers

    def step(self, batch: Batch, progress: float) -> Losses:
        """Classification loss and the weighted CORAL losses of both domains of a batch (eq. 6)."""
        at = self.activations(batch)
        distances = [coral(at.source[layer], at.target[layer]) for layer in self.layers]
        return {
            "cross_entropy": at.cross_entropy,
            "coral": self.weight * torch.stack(distances).sum(),
        }
