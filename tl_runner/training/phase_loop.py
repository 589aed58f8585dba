"""The loop of one phase: its updates over its batches. It knows no method.

Nothing here waits for the device: losses add up there and are read once an epoch, a gate's metric
once a window.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tl_runner import randomness
from tl_runner.errors import DivergedError
from tl_runner.training.distributed import ALONE, Ranks
from tl_runner.training.ema import Average
from tl_runner.training.split_passes import PhasePasses
from tl_runner.training.update_runner import Meter, UpdateRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.base import Method
    from tl_runner.methods.batch import Batch
    from tl_runner.methods.phases import Phase
    from tl_runner.training.batches import Batches
    from tl_runner.training.device import Device
    from tl_runner.training.early_stopping import EarlyStopping
    from tl_runner.training.task_batches import TaskBatches

TRIALS = 3  # of each way of batching


class PhaseLoop:
    """Runs a phase's epochs.

    Args:
        method: holds every network of the phase.
        phase: what to run.
        batches: what it reads.
        device: where, and in which precision.
        seed: of the run.
        epochs: how many.
        ranks: the processes that share the phase.
    """

    def __init__(
        self,
        method: Method,
        phase: Phase,
        batches: Batches | TaskBatches,
        device: Device,
        seed: int,
        epochs: int,
        ranks: Ranks = ALONE,
    ):
        self.method, self.phase, self.batches = method, phase, batches
        self.device, self.seed, self.epochs, self.ranks = device, seed, epochs, ranks
        method.requires_grad_(False)
        self.updates = [
            UpdateRunner(u, device, ranks, phase.length.accumulate) for u in phase.updates
        ]
        trained = list(dict.fromkeys(n for u in phase.updates if u.optimizer for n in u.networks))
        self.average = Average(trained, phase.ema) if phase.ema is not None and trained else None
        self.stopping: EarlyStopping | None = None
        self.meter = Meter()
        self.precomputed: dict[str, Tensor] | None = None  # once, as the phase starts
        self.of_epoch: dict[str, Tensor] = {}  # anew as every epoch begins
        self._learning: UpdateRunner | None = None

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return self.batches.steps

    def begin_epoch(self, epoch: int) -> None:
        """Fresh order and counters. Networks that no update trains stay in eval mode: no dropout,
        fixed statistics."""
        randomness.seed_all(self.seed, self.phase.name, epoch)
        self.batches.begin_epoch(epoch)
        self.meter.reset()
        for runner in self.updates:
            runner.ran = 0
        self._precompute(epoch)
        if self.phase.hooks.each_epoch:
            self.of_epoch = self.phase.hooks.each_epoch(self._passes(epoch))
        if self.average and not self.average.steps:
            # what began the phase may have changed the weights since the loop was made
            self.average.restart()

    def _passes(self, epoch: int) -> PhasePasses:
        return PhasePasses(self.method, self.batches.splits, self.device, epoch)

    def _precompute(self, epoch: int) -> None:
        """Call the hook of that name, once, with the networks as they predict."""
        if self.phase.hooks.precompute and self.precomputed is None:
            self.method.eval()
            self.precomputed = self.phase.hooks.precompute(self._passes(epoch))

    def run_epoch(self, epoch: int, first_step: int, after_step: Callable[[int], bool]) -> bool:
        """Steps ``first_step`` to the last of ``epoch``; False if ``after_step(steps done)`` asked
        to stop."""
        self._precompute(epoch)  # where the epoch is resumed
        self._for_batches = {**(self.precomputed or {}), **self.of_epoch}
        self._train_mode()
        for step in range(first_step, self.steps):
            self._step(epoch * self.steps + step, step)
            if after_step(step + 1):
                return False
        return True

    def _train_mode(self) -> None:
        """Networks that an update trains in training mode, all others in eval mode."""
        self.method.eval()
        for update in self.phase.updates:
            for network in update.networks:
                network.train()
        for layer in self.phase.eval_layers:
            layer.eval()

    def fastest(self) -> str:
        """The way of batching tasks whose gradients of a first batch take the least time on this
        device; those that do not fit are left out.

        A phase that is shorter than the measurement is not measured.
        """
        choices = [*self.phase.batching.choices]
        if len(choices) == 1 or self.epochs * self.steps <= TRIALS * len(choices):
            return choices[min(1, len(choices) - 1)]
        self.batches.begin_epoch(0)
        batch, times = self.batches[0], dict[str, float]()
        self._train_mode()
        for trial in range(TRIALS):  # in turns: a slow moment of the machine is no choice's own
            for choice in choices if trial == 0 else [*times]:
                self.follow(choice)
                with suppress(torch.OutOfMemoryError):
                    times[choice] = min(self._seconds(batch), times.get(choice, math.inf))
        for p in self.method.parameters():
            p.grad = None
        return min(times, key=times.__getitem__, default=choices[0])

    def _seconds(self, batch: Batch) -> float:
        self.device.synchronize()
        began = perf_counter()
        for runner in self.updates:
            self._learn(runner)
            randomness.seed_device(
                self.device.torch, self.seed, self.phase.name, 0, runner.update.name
            )
            runner.gradients(batch, 0.0)
        self.device.synchronize()
        return perf_counter() - began

    def follow(self, choice: str) -> None:
        """Batch tasks by one of the phase's choices."""
        for runner in self.updates:
            runner.accumulate = self.phase.batching.choices[choice]
        self.phase.batching.follow(choice)

    def _step(self, count: int, step: int) -> None:
        name, device = self.phase.name, self.device
        progress = count / (self.epochs * self.steps)
        device.begin_step()
        randomness.seed_device(device.torch, self.seed, name, count, "batch")
        batch = self.batches[step]
        batch.precomputed = self._for_batches
        reported: dict[str, Tensor] = {}
        for runner in self.updates:
            if runner.gate and not runner.gate.open:
                continue
            self._learn(runner)
            randomness.seed_device(
                device.torch, self.seed, name, count, runner.update.name, *self.ranks.stream
            )
            reported.update(runner(batch, progress))
        if self.average:
            self.average.update()
        self.meter.add(reported)
        for runner in self.updates:
            if runner.gate:
                runner.gate.see(reported)

    def _learn(self, runner: UpdateRunner) -> None:
        """Gradients on for this update's parameters, off for every other's."""
        if runner is not self._learning:
            for p in self._learning.parameters if self._learning else ():
                p.requires_grad_(False)
            for p in runner.parameters:
                p.requires_grad_(True)
            self._learning = runner

    def fit(self) -> Sequence[str]:
        """Call the phase's hook that computes from whole splits in one go; returns warnings."""
        assert self.phase.hooks.fit
        randomness.seed_all(self.seed, self.phase.name, "fit")
        return self.phase.hooks.fit(self._passes(self.epochs))

    def as_predicted(self) -> AbstractContextManager:
        """Context in which the networks have their averaged weights, where there are any."""
        return self.average.in_place() if self.average else nullcontext()

    def end(self) -> dict[str, Any]:
        """Leave the phase's final weights in the networks; returns what the record says of that."""
        if self.stopping and self.stopping.weights:
            return {"early_stopping": self.stopping.go_back()}
        if self.average:
            self.average.adopt()
        return {}

    def means(self, epoch: int) -> dict[str, float]:
        """Means of losses and metrics over the steps of an epoch, and over ranks.

        Raises:
            DivergedError: one is NaN or infinite.
        """
        means = self.ranks.means(self.meter.means())
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(
                f"{self.phase.name}, epoch {epoch + 1}: the loss {bad[0]} became "
                f"{means[bad[0]]}. {self.method.if_diverged}"
            )
        return means

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, by update where there are several."""
        several = len(self.updates) > 1
        runners = [(r.update.name, r.optimizer) for r in self.updates if r.optimizer]
        return {
            f"lr_{name}" if several else "lr": optimizer.param_groups[0]["lr"]
            for name, optimizer in runners
        }

    def rested(self) -> str | None:
        """The name of a gated update that did not run at all in this epoch."""
        return next((r.update.name for r in self.updates if r.gate and r.ran == 0), None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step needs beyond the weights and the counters."""
        return {
            "meter": self.meter.state_dict(),
            "updates": {r.update.name: r.state_dict() for r in self.updates},
            "kept": {name: tensor.cpu() for name, tensor in self.of_epoch.items()},
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def _parts(self) -> dict[str, Average | EarlyStopping]:
        return {
            name: part
            for name, part in (("average", self.average), ("stopping", self.stopping))
            if part
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.meter.load_state_dict(state["meter"], self.device)
        self.of_epoch = {
            name: tensor.to(self.device.torch) for name, tensor in state["kept"].items()
        }
        for runner in self.updates:
            runner.load_state_dict(state["updates"][runner.update.name])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def statistics(self) -> list[Tensor]:
        """The floating-point buffers of the networks that train: batch norm's running
        statistics."""
        networks = [n for update in self.phase.updates for n in update.networks]
        averaged = self.average.averaged_statistics() if self.average else []
        return [*(b for b in nn.ModuleList(networks).buffers() if b.is_floating_point()), *averaged]

    def own_state(self) -> dict[str, Any]:
        """The state that differs between ranks inside an epoch."""
        return {
            "meter": self.meter.state_dict(),
            "gates": {r.update.name: r.gate.state_dict() for r in self.updates if r.gate},
            "statistics": [b.cpu() for b in self.statistics()],
        }

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Take up this rank's part of a checkpoint, after the method's and
        :meth:`load_state_dict`."""
        self.meter.load_state_dict(state["meter"], self.device)
        for runner in self.updates:
            if runner.gate:
                runner.gate.load_state_dict(state["gates"][runner.update.name], self.device)
        for buffer, value in zip(self.statistics(), state["statistics"], strict=True):
            buffer.copy_(value)
