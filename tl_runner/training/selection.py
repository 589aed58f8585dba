"""The weights that a run reports: those of the epoch of its last phase that a selection rule
prefers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tl_runner.training import checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.record.run_folder import RunFolder
    from tl_runner.training.device import Device
    from tl_runner.training.distributed import Ranks
    from tl_runner.training.position import Position


class Selection:
    """Keeps the preferred weights of a run in ``best.pt``; the run's position holds their score.

    Args:
        rule: a name of :data:`tl_runner.metrics.selection_rules.RULES`.
        method: whose weights.
        ranks: of which rank 0 alone writes.
    """

    def __init__(self, rule: str, method: Method, folder: RunFolder, at: Position, ranks: Ranks):
        self.rule, self.method, self.folder, self.at, self.ranks = rule, method, folder, at, ranks

    def see(self, scores: Mapping[str, float]) -> None:
        """Keep the weights that have just been scored, if the rule prefers them to all before."""
        if scores.get(self.rule, -math.inf) > self.at.best_score:
            self.at.best_score, self.at.best_epoch = scores[self.rule], self.at.epoch
            self.keep()

    def undefined(self, phase: Phase) -> str | None:
        """A warning, after the last phase, where its rule had no score after any epoch."""
        if self.rule == "last":
            return None
        return (
            f"selection={self.rule} was undefined after every epoch of {phase.name}: "
            "the last epoch is taken."
        )

    def keep(self) -> None:
        """Keep the weights as they are."""
        if self.ranks.main:
            weights = checkpoints.weights_of(self.method, self.method.scaffold)
            checkpoints.save(self.folder.best, {"method": weights, "selection": self.rule})

    def load(self, config: Mapping[str, Any], device: Device) -> None:
        """Put the kept weights into the method; under ``last`` they are there already."""
        if self.rule != "last":
            best = checkpoints.load(self.folder.best, config)
            checkpoints.put_back(self.method, best["method"], self.method.scaffold)
            device.place(self.method)
