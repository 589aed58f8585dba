"""AdaBN: the target's statistics in the batch norm layers."""

from __future__ import annotations

import torch

from bare._loop import Bare, Ground
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, norms = ground.method.target_encoder, ground.method.norms

    def step(target: Samples, progress: float) -> None:
        before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        with torch.no_grad(), ground.device.autocast():
            encoder(target.x)
        for norm, (mean, variance) in zip(norms, before, strict=True):
            norm.running_mean.copy_(mean.lerp(norm.running_mean, 1 / norm.num_batches_tracked))
            norm.running_var.copy_(variance.lerp(norm.running_var, 1 / norm.num_batches_tracked))

    return Bare(step, [encoder])
