"""Where a run stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Position:
    """Where a run stands: counters and what it has found so far. All of it is in the checkpoint."""

    phase: int = 0
    epoch: int = 0
    step: int = 0  # of the epoch
    best_score: float = -math.inf
    best_epoch: int | None = None
    wall_s: float = 0.0
    phase_began: float = 0.0  # in the run's wall seconds
    train_s: float = 0.0
    images: int = 0
    plan: str = ""  # the way of batching tasks that is followed, one of Batching.choices
    # what the last phase's early stopping found
    stopped: dict[str, Any] = field(default_factory=dict)
    # of the finished ones: name, metrics, seconds
    phases: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where the run stood that wrote ``state``.

        Raises:
            TypeError: it has another set of names.
        """
        vars(self).update(vars(Position(**state)))
