"""Attention transfer: the distance of the layers' attention maps."""

from __future__ import annotations

import torch
from torch import Tensor

from bare._distil import pairs, taught
from bare._loop import Bare, Ground
from tl_runner.losses import distillation as losses
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    both, weight, form = pairs(ground), ground.options["weight"], ground.options["form"]

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        maps = [
            (losses.attention(own[1][-1]), losses.attention(other[1][-1])) for own, other in both
        ]
        return weight * torch.stack([losses.attention_distance(*pair, form) for pair in maps]).sum()

    return taught(ground, compare, [layer for pair in both for layer in pair])
