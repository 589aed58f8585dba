"""A method built as a command builds it, and its phases run one at a time."""

from __future__ import annotations

import torch

from support.runs import TINY
from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.phase_loop import PhaseLoop


def build(*words: str):
    """(config, task, method, device) of a command."""
    config = check([*TINY, *words], sweep=False)[0].config
    device = devices.resolve(config["device"])
    task, _ = run.load_data(config)
    method = method_of(config, task.outline())
    device.place(method)
    return config, task, method, device


def loop_of(method, number, task, device, epochs=2, steps=4):
    phase = method.phases()[number]
    reads = {domain: task.splits[name] for domain, name in phase.reads.items()}
    return PhaseLoop(
        method,
        phase,
        Batches(reads, phase.length.batch_size, steps, device, None, (0, phase.name)),
        device,
        0,
        epochs,
    )


def go(loop, epochs=1):
    for epoch in range(epochs):
        loop.begin_epoch(epoch)
        loop.run_epoch(epoch, 0, lambda done: False)
    return loop.meter.means()


def state(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())
