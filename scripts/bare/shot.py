"""SHOT: information maximisation and pseudo labels, made anew before each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bare._loop import CHUNK, Bare, Ground, Learner, view
from tl_runner.losses.self_training import centroid_pseudo_labels, information_maximisation
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, head, weight = (
        ground.method.target_encoder,
        ground.method.head,
        ground.options["pseudo_weight"],
    )
    learner, labels = Learner(ground, [encoder]), torch.empty(0)

    def chunks() -> Iterator[Tensor]:
        for x in ground.splits["target"].x.split(CHUNK):
            ground.device.begin_step()
            with ground.device.autocast():
                yield encoder(view(x, None, ground.device)).float().clone()

    @torch.no_grad()
    def label() -> None:
        nonlocal labels
        ground.method.eval()
        features = torch.cat([*chunks()])
        labels = centroid_pseudo_labels(features, head(features).softmax(1))

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            logits = head(encoder(target.x))
            entropy, diversity = information_maximisation(logits)
            loss = entropy - diversity + weight * F.cross_entropy(logits, labels[target.index])
        learner.descend(loss, progress)

    return Bare(step, [encoder], label)
