"""Fine-tuning with a penalty, which the losses of starting points and of features share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from bare._loop import Bare, Ground, Learner
from tl_runner.methods.batch import Samples


def regularised(ground: Ground, penalty: Callable[[Tensor], Tensor]) -> Bare:
    """Fine-tuning plus ``alpha`` times a penalty, which is given the features."""
    encoder, head = ground.method.encoder, ground.method.head
    learner, smoothing, alpha = (
        Learner(ground, [encoder, head]),
        ground.section["label_smoothing"],
        ground.options["alpha"],
    )

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            features = encoder(target.x)
            loss = F.cross_entropy(
                head(features), target.y, label_smoothing=smoothing
            ) + alpha * penalty(features)
        learner.descend(loss, progress)

    return Bare(step, [encoder, head])
