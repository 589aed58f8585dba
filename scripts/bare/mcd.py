"""MCD: two heads that disagree on the target, and an encoder that makes them agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bare._loop import Bare, Ground, Learner
from tl_runner.losses.discrepancy import classifier_discrepancy
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, heads = (
        ground.method.encoder,
        nn.ModuleList([ground.method.head_a, ground.method.head_b]),
    )
    learners = [Learner(ground, networks) for networks in ([encoder, heads], [heads], [encoder])]
    smoothing, agree_steps = ground.section["label_smoothing"], ground.options["agree_steps"]

    def classified(features: Tensor, y: Tensor) -> Tensor:
        return sum(F.cross_entropy(head(features), y, label_smoothing=smoothing) for head in heads)

    def discrepancy(features: Tensor) -> Tensor:
        return classifier_discrepancy(*(head(features) for head in heads))

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = classified(encoder(source.x), source.y)
        learners[0].descend(loss, progress)
        with ground.device.autocast():
            with torch.no_grad():
                of_source, of_target = encoder(source.x), encoder(target.x)
            loss = classified(of_source, source.y) - discrepancy(of_target)
        learners[1].descend(loss, progress)
        heads.requires_grad_(False)
        for _ in range(agree_steps):
            with ground.device.autocast():
                loss = discrepancy(encoder(target.x))
            learners[2].descend(loss, progress)
        heads.requires_grad_(True)

    return Bare(step, [encoder, heads])
