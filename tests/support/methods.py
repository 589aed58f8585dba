"""A method built as a command builds it, and its phases run one at a time."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache

import torch

from support.runs import TINY
from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.phase_loop import PhaseLoop


@cache
def composed(*words: str):
    """The config of a command; composing costs more than most of what is tested of it."""
    return check([*TINY, *words], sweep=False)[0].config


@cache
def embedded(config: str):
    """The task of embedded data, by its config as JSON."""
    return run.load_data(json.loads(config))[0]


def task_of(config):
    """The task of a config; one that reads no files is made once and its parts are shared."""
    if any(key.endswith(("root", "_dir", "_file")) for key in config["data"]):
        return run.load_data(config)[0]
    kept = ("data", "seed", "train", "method", "backbone")
    task = embedded(json.dumps({key: config[key] for key in kept}, sort_keys=True))
    return replace(task, splits=dict(task.splits), episodes=dict(task.episodes))


def build(*words: str):
    """(config, task, method, device) of a command."""
    config = deepcopy(composed(*words))
    device = devices.resolve(config["device"])
    task = task_of(config)
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
