"""A made-up method of one linear layer, and the loop over its phases."""

from __future__ import annotations

import torch
from torch import nn

from tl_runner.data.task import Split
from tl_runner.methods.base import Method
from tl_runner.methods.phases import Length, Outputs, Phase
from tl_runner.methods.setting import Setting
from tl_runner.training.batches import Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

CPU = Device(torch.device("cpu"), "fp32", channels_last=False, compile=False, cuda_graphs=False)
SGD = {
    "name": "sgd",
    "lr": 0.1,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "betas": [0.9, 0.999],
    "schedule": "constant",
    "warmup": 0.0,
    "milestones": [0.5, 0.75],
    "gamma": 0.1,
    "clip_norm": None,
    "max_norm": None,
}


class Toy(Method):
    """Two linear layers; ``seen`` lists what ran."""

    def __init__(self):
        super().__init__(Setting(2, (1, 2, 2), None, 0))
        self.a, self.b = (
            self.fresh("a", lambda: nn.Linear(4, 2)),
            self.fresh("b", lambda: nn.Linear(4, 2)),
        )
        self.seen: list[str] = []
        self.signal = 1.0

    def phases(self):
        return []

    def step_of(self, name):
        network = getattr(self, name)

        def step(batch, progress):
            self.seen.append(f"{name}{progress:.2f}")
            out = network(batch.source.x.flatten(1))
            return {f"loss_{name}": out.square().mean()}, {"signal": torch.tensor(self.signal)}

        return step


def split(n=10, h=2, labels=True):
    x = torch.arange(n * h * h, dtype=torch.uint8).view(n, 1, h, h)
    return Split(x, torch.arange(n) % 2 if labels else None, torch.arange(n))


def phase_loop(method, updates, epochs=2, steps=3, n=10):
    phase = Phase(
        "toy",
        {"source": "source_train"},
        updates,
        Length(epochs, 2, steps),
        Outputs(method.a),
    )
    return PhaseLoop(
        method,
        phase,
        Batches({"source": split(n)}, 2, steps, CPU, None, (0, "toy")),
        CPU,
        0,
        epochs,
    )


def go(loop, epoch=0):
    loop.begin_epoch(epoch)
    return loop.run_epoch(epoch, 0, lambda done: False)
