"""JAN: the joint MMD of features and predictions."""

from __future__ import annotations

from torch import Tensor

from bare._loop import Bare, Ground, joint
from tl_runner.losses.adversarial import adaptation_factor
from tl_runner.losses.mmd import median_bandwidths, mmd


def bare(ground: Ground) -> Bare:
    options = ground.options

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        layers = [layer.chunk(2) for layer in (features, logits.softmax(1))]
        bandwidths = [
            median_bandwidths(*layer, options["kernels"], options["kernel_ratio"])
            for layer in layers
        ]
        return (
            options["weight"]
            * adaptation_factor(progress)
            * mmd(*zip(*layers, strict=True), bandwidths, options["estimator"])
        )

    return joint(ground, transfer)
