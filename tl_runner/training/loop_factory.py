"""The loop that runs a phase, made from it: its batches, its length, when it stops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tl_runner.data.splits import without
from tl_runner.training.batches import Batches, Labelled
from tl_runner.training.distributed import ALONE, Ranks
from tl_runner.training.early_stopping import EarlyStopping, validated_on
from tl_runner.training.phase_loop import PhaseLoop
from tl_runner.training.task_batches import TaskBatches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.data.episodes import Episodes
    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.training.batches import Augment
    from tl_runner.training.device import Device

LEAST_STEPS = 20  # of an epoch, however few samples there are to pass


@dataclass(frozen=True)
class LoopFactory:
    """Makes the loops of a run's phases.

    Attributes:
        method: on the device already.
        splits: by name, on the device already.
        episodes: few-shot tasks by name, on the device already, where these are learned and not the
            splits.
        seed: of the run.
        limit: ``epochs`` and ``steps`` that no phase goes beyond, or None; ``passes`` over the
            samples that it adapts to, in an epoch, or None.
        augment: of the training batches, or None.
        ranks: the processes that share the run.
    """

    method: Method
    splits: Mapping[str, Split]
    episodes: Mapping[str, Episodes]
    device: Device
    seed: int
    limit: Mapping[str, Any]
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
        batches.steps = self._steps(phase, batches.steps)
        epochs = self._epochs(phase)
        loop = PhaseLoop(
            self.method, phase, batches, self.device, self.seed_of(phase), epochs, self.ranks
        )
        if phase.length.patience is not None:
            split = validated_on(phase, {*self.splits, *self.episodes})[0]
            loop.stopping = EarlyStopping(
                phase.length.patience, split, self.method, self.method.elsewhere
            )
        return loop

    def _epochs(self, phase: Phase) -> int:
        epochs = phase.length.epochs
        return epochs if phase.length.ignores_limit else min(epochs, self.limit["epochs"] or epochs)

    def _steps(self, phase: Phase, steps: int) -> int:
        """Steps of an epoch: those that were asked for, unless they pass a few samples too often
        or ``limit`` cuts them."""
        if (passes := self.limit.get("passes")) and not self.episodes:
            samples = self._passed(phase)
            enough = math.ceil(passes * samples / (phase.length.batch_size * self.ranks.world))
            steps = min(steps, max(LEAST_STEPS, enough))
        return min(steps, self.limit["steps"] or steps)

    def _passed(self, phase: Phase) -> int:
        """How many samples a phase passes: of the target where it reads some, else of the first
        domain."""
        name = phase.reads.get("target") or next(iter(phase.reads.values()))
        return len(without(self.splits[name], phase.sampling.leave_out))

    def length(self, phase: Phase) -> tuple[int, int]:
        """(epochs, steps of each) of a phase that reads splits."""
        first = self.splits[next(iter(phase.reads.values()))]
        size = phase.length.batch_size * self.ranks.world
        own = phase.length.steps_per_epoch or max(1, len(first) // size)
        return self._epochs(phase), self._steps(phase, own)

    def lengths(self, phases: Sequence[Phase]) -> str:
        """The length of every phase that trains, in words: steps and passes over its samples."""
        found = []
        for phase in phases:
            epochs, steps = self.length(phase)
            if not phase.updates or not epochs:
                continue
            samples = self._passed(phase)
            passes = epochs * steps * phase.length.batch_size * self.ranks.world / samples
            found.append(
                f"{phase.name} {epochs} x {steps} steps, {passes:.0f} passes over {samples:,} "
                "samples"
            )
        return "; ".join(found)

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
        read = {
            domain: without(self.splits[name], sampling.leave_out)
            for domain, name in phase.reads.items()
        }
        if not sampling.augment:
            read = {domain: replace(split, views=None) for domain, split in read.items()}
        return Batches(
            read,
            phase.length.batch_size,
            phase.length.steps_per_epoch,
            self.device,
            self.augment if sampling.augment else None,
            self._stream(phase),
            self.ranks,
            Labelled(sampling.balance, *mixed, classes),
        )
