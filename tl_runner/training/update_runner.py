"""One update of a phase at work: its gradients, its optimiser, its gate, and its metrics' means.

Nothing here waits for the device: losses add up there and are read once an epoch, a gate's metric
once a window.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tl_runner.methods.phases import Group
from tl_runner.training.schedules import factor, make_optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics
    from tl_runner.methods.phases import Gate, Update
    from tl_runner.training.device import Device
    from tl_runner.training.distributed import Ranks


class Meter:
    """Means of scalars that stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if name in self.sums:
                self.sums[name].add_(value.detach())
                self.counts[name] += 1
            else:
                self.sums[name] = value.detach().float().clone()
                self.counts[name] = 1

    def means(self) -> dict[str, float]:
        """The mean of each; waits for the device."""
        return {name: self.sums[name].item() / self.counts[name] for name in self.sums}

    def reset(self) -> None:
        self.sums.clear()
        self.counts.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {k: v.cpu() for k, v in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: Device) -> None:
        self.sums = {k: v.to(device.torch) for k, v in state["sums"].items()}
        self.counts = dict(state["counts"])


@torch.no_grad()
def cut_back(parameters: Sequence[Tensor], most: float) -> None:
    """Scale every unit's incoming weights, a row (of a convolution a filter), down to a norm of
    ``most``.

    Hinton, Srivastava, Krizhevsky, Sutskever & Salakhutdinov, "Improving neural networks by
    preventing co-adaptation of feature detectors", 2012, section 2.
    """
    for weight in parameters:
        if weight.ndim > 1:
            weight.copy_(weight.renorm(2, 0, most))


class GateKeeper:
    """The state of a gated update: ``open`` while it runs, for a window of steps."""

    def __init__(self, gate: Gate, ranks: Ranks):
        self.gate, self.ranks, self.open, self.meter = gate, ranks, True, Meter()

    def see(self, values: Mapping[str, Tensor]) -> None:
        """Count a step in: the metrics that the phase's updates reported."""
        self.meter.add({self.gate.metric: values[self.gate.metric]})
        if self.meter.counts[self.gate.metric] == self.gate.window:
            self.open = self.ranks.means(self.meter.means())[self.gate.metric] > self.gate.above
            self.meter.reset()

    def state_dict(self) -> dict[str, Any]:
        return {"open": self.open, "meter": self.meter.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], device: Device) -> None:
        self.open = state["open"]
        self.meter.load_state_dict(state["meter"], device)


class UpdateRunner:
    """One update with its optimiser, loss scale and gate."""

    def __init__(self, update: Update, device: Device, ranks: Ranks, accumulate: int):
        self.update, self.device, self.ranks, self.accumulate = update, device, ranks, accumulate
        every = list(dict.fromkeys(p for n in update.networks for p in n.parameters()))
        self.groups = update.groups or [Group(every)]
        self.parameters = [p for group in self.groups for p in group.parameters]
        self.optimizer = make_optimizer(update.optimizer, self.groups) if update.optimizer else None
        self.scaler = device.scaler() if update.optimizer else None
        self.gate = GateKeeper(update.gate, ranks) if update.gate else None
        self.ran = 0  # steps of this epoch

    def __call__(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Forward, backward and step, ``repeats`` times; returns its losses and metrics, on the
        device."""
        self.ran += 1
        if self.optimizer is None:
            with torch.no_grad(), self.device.autocast():
                return {
                    name: value
                    for part in _both(self.update.step(batch, progress))
                    for name, value in part.items()
                }
        assert self.update.optimizer
        if self.update.optimizer["schedule"] != "constant" or self.update.optimizer["warmup"]:
            lr = self.update.optimizer["lr"] * factor(self.update.optimizer, progress)
            for options, group in zip(self.optimizer.param_groups, self.groups, strict=True):
                options["lr"] = lr * group.rate
        reported: dict[str, Tensor] = {}
        for _ in range(self.update.repeats):
            reported = self.gradients(batch, progress)
            # scaled gradients too: one rank's overflow is then seen by all, and all skip the step
            if self.ranks.world > 1:
                self.ranks.average([p.grad for p in self.parameters if p.grad is not None])
            if self.update.optimizer["clip_norm"]:
                if self.scaler:
                    self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.parameters, self.update.optimizer["clip_norm"])
            if self.scaler:
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.optimizer.step()
            if self.update.optimizer["max_norm"]:
                cut_back(self.parameters, self.update.optimizer["max_norm"])
            if self.update.after:
                self.update.after()
        return reported

    def gradients(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Put the losses' gradients into the parameters; returns losses and metrics, on the
        device."""
        assert self.optimizer
        self.optimizer.zero_grad(set_to_none=True)
        if self.accumulate == 1:
            return self._backward(batch, progress, 1.0)
        parts = [
            self._backward(batch.part(i, self.accumulate), progress, 1 / self.accumulate)
            for i in range(self.accumulate)
        ]
        return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}

    def _backward(self, batch: Batch, progress: float, share: float) -> dict[str, Tensor]:
        """Add ``share`` of the gradients of a batch's losses; returns losses and metrics, without a
        graph."""
        with self.device.autocast():
            losses, metrics = _both(self.update.step(batch, progress))
        if self.update.gradients:
            self.update.gradients(
                {name: self.scaler.scale(loss) for name, loss in losses.items()}
                if self.scaler
                else losses
            )
        else:
            total = (
                reduce(add, losses.values()) * share if share < 1 else reduce(add, losses.values())
            )
            (self.scaler.scale(total) if self.scaler else total).backward()
        return {name: value.detach() for name, value in {**losses, **metrics}.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "gate": self.gate.state_dict() if self.gate else None,
            "ran": self.ran,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.gate:
            self.gate.load_state_dict(state["gate"], self.device)
        self.ran = state["ran"]


def _both(result: Losses | tuple[Losses, Metrics]) -> tuple[Losses, Metrics]:
    return result if isinstance(result, tuple) else (result, {})
