"""DAN: the MMD of the features plus that of the logits."""

from __future__ import annotations

from torch import Tensor

from bare._loop import Bare, Ground, joint
from tl_runner.losses.mmd import median_bandwidths, mmd


def bare(ground: Ground) -> Bare:
    options = ground.options

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        return options["weight"] * (distance(*features.chunk(2)) + distance(*logits.chunk(2)))

    def distance(source: Tensor, target: Tensor) -> Tensor:
        bandwidths = median_bandwidths(source, target, options["kernels"], options["kernel_ratio"])
        return mmd([source], [target], [bandwidths], options["estimator"])

    return joint(ground, transfer)
