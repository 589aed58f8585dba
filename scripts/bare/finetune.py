"""Fine-tuning: cross-entropy on the labelled target."""

from __future__ import annotations

from bare._loop import Bare, Ground, classify


def bare(ground: Ground) -> Bare:
    return classify(ground, "target")
