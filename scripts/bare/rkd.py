"""RKD: distances and angles between the samples' features."""

from __future__ import annotations

from torch import Tensor

from bare._distil import taught
from bare._loop import Bare, Ground
from tl_runner.losses import distillation as losses
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    o, own, other = (
        ground.options,
        (ground.method.encoder, []),
        (ground.method.teachers[0].encoder, []),
    )

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        student, taught = own[1][-1].flatten(1), other[1][-1].flatten(1)
        distance = o["distance_weight"] * losses.relation_distance(student, taught)
        return distance + o["angle_weight"] * losses.relation_angle(student, taught)

    return taught(ground, compare, [own, other])
