"""LoRA: fine-tuning of the adapters and the head alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from bare._loop import Bare, Ground, Learner
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, head, adapters = (
        ground.method.encoder,
        ground.method.head,
        nn.ModuleList(ground.method.adapters),
    )
    learner, smoothing = Learner(ground, [head, adapters]), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(encoder(target.x)), target.y, label_smoothing=smoothing)
        learner.descend(loss, progress)

    return Bare(step, [head, adapters])
