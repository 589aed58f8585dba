"""Deep CORAL: the covariances of source and target activations are made equal.

Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016,
eq. 1-6: no term for the means, a constant weight at which both losses end about equal, on the
logits unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tl_runner.losses.coral import coral
from tl_runner.methods.adaptation._base import SharedEncoder
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Batch, Losses


class DeepCoral(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the CORAL loss, constant.
        layers: whose losses are added up: ``features``, ``logits``.
    """

    couples = True

    def __init__(self, setting: Setting, *, weight: float, layers: Sequence[str], **phases: Any):
        super().__init__(setting, **phases)
        self.weight, self.layers = weight, layers

    def step(self, batch: Batch, progress: float) -> Losses:
        """Eq. 6 on both domains of a batch."""
        at = self.activations(batch)
        distances = [coral(at.source[layer], at.target[layer]) for layer in self.layers]
        return {
            "cross_entropy": at.cross_entropy,
            "coral": self.weight * torch.stack(distances).sum(),
        }
