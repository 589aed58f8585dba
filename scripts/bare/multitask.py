"""Multi-task learning with equal weights, and the cosines that the runner measures."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F

from bare._loop import Bare, Ground, Learner
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    network, sizes = ground.method.shared, ground.method.sizes
    learner, smoothing = Learner(ground, [network]), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            features = network.encoder(target.x)
            losses = []
            for task, head in network.heads.items():
                y = target.y if task == "class" else target.also[task]
                said = head(features)
                losses.append(
                    F.cross_entropy(said, y, label_smoothing=smoothing)
                    if sizes[task]
                    else F.mse_loss(said[:, 0], y)
                )
            found = [
                torch.autograd.grad(loss, features, retain_graph=True)[0].flatten()
                for loss in losses
            ]
            for a, b in combinations(found, 2):
                F.cosine_similarity(a, b, dim=0)
        learner.descend(torch.stack(losses).sum(), progress)

    return Bare(step, [network])
