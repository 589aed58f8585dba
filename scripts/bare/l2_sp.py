"""L2-SP: fine-tuning plus the squared distance from the pretrained weights."""

from __future__ import annotations

from bare._loop import Bare, Ground
from bare._regularised import regularised
from tl_runner.losses.regularisers import l2_sp


def bare(ground: Ground) -> Bare:
    encoder, origin = ground.method.encoder, ground.method.origin
    return regularised(
        ground, lambda features: l2_sp([*encoder.parameters()], [*origin.parameters()])
    )
