"""The loop that runs a phase, made from it: its batches, its length, when it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tl_runner.data.splits import without
from tl_runner.training.batches import Batches, Labelled
from tl_runner.training.distributed import ALONE, Ranks
from tl_runner.training.early_stopping import EarlyStopping, validated_on
from tl_runner.training.phase_loop import PhaseLoop
from tl_runner.training.task_batches import TaskBatches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.data.episodes import Episodes
    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.training.batches import Augment
    from tl_runner.training.device import Device


@dataclass(frozen=True)
class LoopFactory:
    """Makes the loops of a run's phases.

    Attributes:
        method: on the device already.
        splits: by name, on the device already.
        episodes: few-shot tasks by name, on the device already, where these are learned and not the
            splits.
        seed: of the run.
        limit: ``epochs`` and ``steps`` that no phase goes beyond, or None.
        augment: of the training batches, or None.
        ranks: the processes that share the run.
    """

    method: Method
    splits: Mapping[str, Split]
    episodes: Mapping[str, Episodes]
    device: Device
    seed: int
    limit: Mapping[str, int | None]
    augment: Augment | None
    ranks: Ranks = ALONE

    def seed_of(self, phase: Phase) -> int:
        """The seed of a phase's random numbers: the run's, unless it has one of its own."""
        return self.seed if phase.seed is None else phase.seed

    def make(self, phase: Phase) -> PhaseLoop:
        """The loop of a phase over its batches, as short as ``limit`` says.

        Raises:
            ConfigError: its batches cannot be made.
        """
        batches = self._tasks(phase) if self.episodes else self._batches(phase)
        batches.steps = min(batches.steps, self.limit["steps"] or batches.steps)
        epochs = phase.length.epochs
        if not phase.length.ignores_limit:
            epochs = min(epochs, self.limit["epochs"] or epochs)
        loop = PhaseLoop(
            self.method, phase, batches, self.device, self.seed_of(phase), epochs, self.ranks
        )
        if phase.length.patience is not None:
            split = validated_on(phase, {*self.splits, *self.episodes})[0]
            loop.stopping = EarlyStopping(
                phase.length.patience, split, self.method, self.method.elsewhere
            )
        return loop

    def _stream(self, phase: Phase) -> tuple[int, str]:
        return self.seed_of(phase), phase.name

    def _tasks(self, phase: Phase) -> TaskBatches:
        tasks = {domain: self.episodes[name] for domain, name in phase.reads.items()}
        return TaskBatches(
            tasks,
            phase.length.batch_size,
            phase.length.steps_per_epoch,
            self.device,
            self._stream(phase),
            self.ranks,
        )

    def _batches(self, phase: Phase) -> Batches:
        setting, sampling = self.method.setting, phase.sampling
        classes = dict.fromkeys(phase.reads, setting.num_classes)
        if "source" in classes and setting.source_classes:
            classes["source"] = setting.source_classes
        mixed = (sampling.mixup, sampling.cutmix) if sampling.augment else (0.0, 0.0)
        return Batches(
            {
                domain: without(self.splits[name], sampling.leave_out)
                for domain, name in phase.reads.items()
            },
            phase.length.batch_size,
            phase.length.steps_per_epoch,
            self.device,
            self.augment if sampling.augment else None,
            self._stream(phase),
            self.ranks,
            Labelled(sampling.balance, *mixed, classes),
        )
