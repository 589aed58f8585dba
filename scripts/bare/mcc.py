"""MCC: the class confusion of the target's predictions."""

from __future__ import annotations

from bare._loop import Bare, Ground, joint
from tl_runner.losses.self_training import minimum_class_confusion


def bare(ground: Ground) -> Bare:
    weight, temperature = ground.options["weight"], ground.options["temperature"]
    return joint(
        ground,
        lambda features, logits, progress: (
            weight * minimum_class_confusion(logits.chunk(2)[1], temperature)
        ),
    )
