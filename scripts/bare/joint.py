"""Joint training: one encoder on the labels of both domains, a head each."""

from __future__ import annotations

import torch.nn.functional as F

from bare._loop import Bare, Ground, Learner
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    method, weight = ground.method, ground.options["weight"]
    networks = [method.encoder, method.head, method.source_head]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(target: Samples, source: Samples, progress: float) -> None:
        with ground.device.autocast():
            new = F.cross_entropy(
                method.head(method.encoder(target.x)), target.y, label_smoothing=smoothing
            )
            old = F.cross_entropy(
                method.source_head(method.encoder(source.x)), source.y, label_smoothing=smoothing
            )
        learner.descend(new + weight * old, progress)

    return Bare(step, networks)
