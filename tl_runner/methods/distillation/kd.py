"""KD: a student learns the probabilities that a teacher gives all classes, softened by a
temperature, beside the labels.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning
Workshop, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tl_runner.backbones._inner_layers import Seen
from tl_runner.losses.distillation import soft_targets
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples
from tl_runner.methods.distillation._base import Distillation


class KD(Distillation):
    """Phases: ``teach``, the student by labels alone, ``distil``.

    Args:
        temperature: T of both networks' softmax.
        weight: of T^2 KL(teacher || student).
    """

    def __init__(self, setting: Setting, *, temperature: float, weight: float, **options: Any):
        super().__init__(setting, **options)
        self.temperature, self.weight = temperature, weight

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        return {
            "soft_targets": self.weight
            * soft_targets(student.logits, teacher["logits"], self.temperature)
        }
