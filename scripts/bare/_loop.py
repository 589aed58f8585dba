"""Parts of the bare loops: order, views, an optimiser from its config section, and two updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.data.splits import Split
from tl_runner.methods.base import Method
from tl_runner.methods.batch import Samples
from tl_runner.methods.phases import Group
from tl_runner.training.device import Device
from tl_runner.training.schedules import factor, make_optimizer

CHUNK = 500  # images at once in a pass over a whole split

Step = Callable[..., None]  # of Samples by domain (source=, target=) and progress= in [0, 1)
# features and logits of the source, then the target; progress
Transfer = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Ground:
    """Materials of a bare loop.

    Attributes:
        method: whose networks it trains, on the device.
        options: the method's config.
        section: that of the phase: its lengths and optimisers.
        splits: by the domain that reads them.
        device: where, and in which precision.
    """

    method: Method
    options: Mapping[str, Any]
    section: Mapping[str, Any]
    splits: Mapping[str, Split]
    device: Device


@dataclass(frozen=True)
class Bare:
    """A method's training loop by hand.

    Attributes:
        step: one step, of a batch of each domain.
        trains: the networks in training mode meanwhile.
        each_epoch: called before each epoch.
    """

    step: Step
    trains: Sequence[nn.Module]
    each_epoch: Callable[[], None] = lambda: None


def epochs(
    ground: Ground, bare: Bare, steps: int, count: int, augment: Callable | None
) -> Callable[[], None]:
    """One epoch of ``steps`` steps a call, ``count`` in all."""
    size, numbers = ground.section["batch_size"], iter(range(count))

    def epoch() -> None:
        start = next(numbers) * steps
        orders = {
            domain: order(len(split), steps * size, ground.device)
            for domain, split in ground.splits.items()
        }
        bare.each_epoch()
        learn(ground.method, *bare.trains)
        for step in range(steps):
            ground.device.begin_step()
            rows = slice(step * size, (step + 1) * size)
            batch = {
                domain: samples(ground, domain, index[rows], augment)
                for domain, index in orders.items()
            }
            bare.step(**batch, progress=(start + step) / (count * steps))

    return epoch


def order(size: int, need: int, device: Device) -> Tensor:
    """Permutations of a split, one after the other."""
    return torch.cat([torch.randperm(size) for _ in range(-(-need // size))]).to(device.torch)


def samples(ground: Ground, domain: str, index: Tensor, augment: Callable | None) -> Samples:
    split = ground.splits[domain]
    also = {name: values[index] for name, values in split.also.items()}
    return Samples(
        view(split.x[index], augment, ground.device),
        None if split.y is None else split.y[index],
        index,
        also=also,
    )


def view(x: Tensor, augment: Callable | None, device: Device) -> Tensor:
    """uint8 images to what the networks see."""
    x = x.float().div_(255)
    if augment:
        x = augment(x, None)
    return x.contiguous(memory_format=torch.channels_last) if device.channels_last else x


def learn(method: Method, *networks: nn.Module) -> None:
    """Training mode and gradients for these networks of a method alone."""
    method.eval().requires_grad_(False)
    for network in networks:
        network.train().requires_grad_(True)


class Learner:
    """An optimiser over some networks, from its config section."""

    def __init__(self, ground: Ground, networks: Sequence[nn.Module], section: str = "optimizer"):
        self.options = ground.section[section]
        self.optimizer = make_optimizer(
            self.options, [Group([p for network in networks for p in network.parameters()])]
        )
        self.scaler = ground.device.scaler()

    def descend(self, loss: Tensor, progress: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options["lr"] * factor(self.options, progress)
        self.optimizer.zero_grad()
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()


def classify(ground: Ground, domain: str) -> Bare:
    """Cross-entropy on one labelled domain."""
    networks = [ground.method.encoder, ground.method.head]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(progress: float, **batch: Samples) -> None:
        with ground.device.autocast():
            logits = ground.method.head(ground.method.encoder(batch[domain].x))
            loss = F.cross_entropy(logits, batch[domain].y, label_smoothing=smoothing)
        learner.descend(loss, progress)

    return Bare(step, networks)


def joint(ground: Ground, transfer: Transfer, *more: nn.Module) -> Bare:
    """The source's cross-entropy plus a loss of both domains, for encoder, head and ``more``."""
    networks = [ground.method.encoder, ground.method.head, *more]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            features = torch.cat([ground.method.encoder(source.x), ground.method.encoder(target.x)])
            logits = ground.method.head(features)
            loss = F.cross_entropy(
                logits[: len(source.x)], source.y, label_smoothing=smoothing
            ) + transfer(features, logits, progress)
        learner.descend(loss, progress)

    return Bare(step, networks)
