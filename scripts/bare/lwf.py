"""LwF: the target's labels, and the answers recorded from the old network."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bare._loop import Bare, Ground, Learner
from tl_runner.losses.distillation import softened_cross_entropy
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    method, options = ground.method, ground.options
    networks = [method.encoder, method.head, method.source_head]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            with torch.no_grad():
                recorded = method.origin_head(method.origin(target.x))
            features = method.encoder(target.x)
            new = F.cross_entropy(method.head(features), target.y, label_smoothing=smoothing)
            old = softened_cross_entropy(
                method.source_head(features), recorded, options["temperature"]
            )
        learner.descend(new + options["weight"] * old, progress)

    return Bare(step, networks)
