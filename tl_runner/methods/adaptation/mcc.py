"""MCC: minimum class confusion. Target predictions are trained not to confuse one class with
another; no discriminator.

Jin, Wang, Long & Wang, "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020,
section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.losses.self_training import minimum_class_confusion
from tl_runner.methods.adaptation._base import SharedEncoder

if TYPE_CHECKING:
    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class Mcc(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the class confusion, constant.
        temperature: that the target's logits are divided by.
    """

    couples = True
    estimated_by = ("atc", "doc")

    def __init__(self, setting: Setting, *, weight: float, temperature: float, **phases: Any):
        super().__init__(setting, **phases)
        self.weight, self.temperature = weight, temperature

    def step(self, batch: Batch, progress: float) -> Losses:
        """Classification loss of the source and the weighted class confusion of the target."""
        at = self.activations(batch)
        confusion = minimum_class_confusion(at.target["logits"], self.temperature)
        return {"cross_entropy": at.cross_entropy, "class_confusion": self.weight * confusion}
