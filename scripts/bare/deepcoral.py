"""Deep CORAL: the distance of the logits' covariances."""

from __future__ import annotations

from bare._loop import Bare, Ground, joint
from tl_runner.losses.coral import coral


def bare(ground: Ground) -> Bare:
    weight = ground.options["weight"]
    return joint(ground, lambda features, logits, progress: weight * coral(*logits.chunk(2)))
