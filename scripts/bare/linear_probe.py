"""Linear probe: a head on features that are extracted once."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bare._loop import CHUNK, Bare, Ground, Learner, view
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, head = ground.method.encoder, ground.method.head
    learner, smoothing, kept = (
        Learner(ground, [head]),
        ground.section["label_smoothing"],
        torch.empty(0),
    )

    @torch.no_grad()
    def extract() -> None:
        nonlocal kept
        if not len(kept):
            ground.method.eval()
            with ground.device.autocast():
                kept = torch.cat(
                    [
                        encoder(view(x, None, ground.device)).float()
                        for x in ground.splits["target"].x.split(CHUNK)
                    ]
                )

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(kept[target.index]), target.y, label_smoothing=smoothing)
        learner.descend(loss, progress)

    return Bare(step, [head], extract)
