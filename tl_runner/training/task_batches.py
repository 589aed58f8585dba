"""Meta-batches of few-shot tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tl_runner import randomness
from tl_runner.errors import ConfigError
from tl_runner.methods.batch import Batch, TaskSet
from tl_runner.training.batches import pixels
from tl_runner.training.distributed import ALONE, Ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.data.episodes import Drawn, Episodes
    from tl_runner.data.splits import Split
    from tl_runner.training.device import Device


class TaskBatches:
    """The meta-batches of a phase: fresh tasks in every step. Several ranks draw the same ones and
    each takes its part.

    Args:
        episodes: by the phase's name of them, one.
        tasks: in a meta-batch.
        steps: of an epoch.

    Raises:
        ConfigError: no number of steps.
    """

    def __init__(
        self,
        episodes: Mapping[str, Episodes],
        tasks: int,
        steps: int | None,
        device: Device,
        stream: tuple[int, str],
        ranks: Ranks = ALONE,
    ):
        if steps is None:
            raise ConfigError(["tasks have no end: set method.meta.steps_per_epoch to a number."])
        (self.episodes,) = episodes.values()
        self.splits: Mapping[str, Split] = {}  # tasks have no whole split to pass over
        self.tasks, self.steps = tasks, steps
        self.device, self.stream, self.ranks = device, stream, ranks
        self._drawn = torch.empty(0)  # the epoch's tasks, (steps, tasks, ...)

    @property
    def images(self) -> int:
        """Images of one step, on this rank."""
        return self.tasks * self.episodes.ways * (self.episodes.shots + self.episodes.queries)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's tasks, onto the device."""
        generator = randomness.generator(*self.stream, epoch, "tasks")
        every_rank = self.tasks * self.ranks.world
        drawn = [self.episodes.plan(every_rank, generator) for _ in range(self.steps)]
        own = [
            tasks.unflatten(0, (self.ranks.world, self.tasks))[self.ranks.rank] for tasks in drawn
        ]
        self._drawn = torch.stack(own).to(self.device.torch)

    def __getitem__(self, step: int) -> Batch:
        """The meta-batch of a step of this epoch."""
        return Batch(**task_sets(self.episodes.at(self._drawn[step]), self.episodes.ways))


def task_sets(drawn: Drawn, ways: int) -> dict[str, TaskSet]:
    """Drawn tasks as networks read them: ``support`` and ``query``."""
    return {
        "support": TaskSet(pixels(drawn.support), drawn.support_y, drawn.support_index, ways),
        "query": TaskSet(pixels(drawn.query), drawn.query_y, drawn.query_index, ways),
    }
