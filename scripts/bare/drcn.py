"""DRCN: classifying the source, then reconstructing the target, in every step."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bare._loop import Bare, Ground, Learner
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    encoder, head, decoder = ground.method.encoder, ground.method.head, ground.method.decoder
    classifier, autoencoder = (
        Learner(ground, [encoder, head]),
        Learner(ground, [encoder, decoder], "reconstruction_optimizer"),
    )
    smoothing, noise = ground.section["label_smoothing"], ground.options["noise"]

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(encoder(source.x)), source.y, label_smoothing=smoothing)
        classifier.descend(loss, progress)
        with ground.device.autocast():
            noisy = target.x * (torch.rand_like(target.x) >= noise)
            loss = F.mse_loss(decoder(encoder(noisy)), target.x)
        autoencoder.descend(loss, progress)

    return Bare(step, [encoder, head, decoder])
