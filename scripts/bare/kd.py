"""KD: cross-entropy plus the teacher's soft targets."""

from __future__ import annotations

from bare._distil import soft, taught
from bare._loop import Bare, Ground


def bare(ground: Ground) -> Bare:
    return taught(ground, soft(ground.options))
