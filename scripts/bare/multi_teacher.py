"""Multi-teacher KD: the soft targets of the teachers' mean."""

from __future__ import annotations

import torch

from bare._distil import taught
from bare._loop import Bare, Ground
from tl_runner.losses import distillation as losses


def bare(ground: Ground) -> Bare:
    t, weight, teachers = (
        ground.options["temperature"],
        ground.options["weight"],
        len(ground.method.teachers),
    )
    shares = torch.full((teachers,), 1 / teachers, device=ground.device.torch)
    return taught(
        ground,
        lambda s, said, target, progress: (
            weight * losses.soft_targets(s, losses.mixture(said.float(), shares, t), t)
        ),
    )
