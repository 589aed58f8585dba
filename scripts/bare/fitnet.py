"""FitNet's second stage: soft targets with a weight that falls over the training."""

from __future__ import annotations

from torch import Tensor

from bare._distil import taught
from bare._loop import Bare, Ground
from tl_runner.losses import distillation as losses
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    o = ground.options

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        weight = o["start_weight"] * (1 - progress) + o["end_weight"] * progress
        return weight * losses.softened_cross_entropy(s, teacher, o["temperature"])

    return taught(ground, compare)
