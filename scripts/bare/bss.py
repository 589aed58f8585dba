"""BSS: fine-tuning plus the smallest singular values of the features."""

from __future__ import annotations

from bare._loop import Bare, Ground
from bare._regularised import regularised
from tl_runner.losses.regularisers import batch_spectral_shrinkage


def bare(ground: Ground) -> Bare:
    return regularised(ground, batch_spectral_shrinkage)
