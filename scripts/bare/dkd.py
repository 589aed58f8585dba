"""DKD: the decoupled losses of the target class and of the others."""

from __future__ import annotations

from torch import Tensor

from bare._distil import taught
from bare._loop import Bare, Ground
from tl_runner.losses import distillation as losses
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    o = ground.options

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        tckd, nckd = losses.decoupled(s, teacher, target.y, o["temperature"])
        return min(1.0, progress / o["rise"]) * (o["alpha"] * tckd.mean() + o["beta"] * nckd.mean())

    return taught(ground, compare)
