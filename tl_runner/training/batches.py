"""Batches of a phase: an index into tensors on the device, then augmentation of the whole batch there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.tasks import Split
from tl_runner.methods.base import Batch, Samples
from tl_runner.training.device import Device
from tl_runner.training.ranks import ALONE, Ranks

Augment = Callable[[Tensor, torch.Generator | None, int, int], Tensor]  # images, generator, part of the batch, parts


def pixels(x: Tensor) -> Tensor:
    """uint8 to float in [0, 1]: what every network sees, as in ADDA's code; a background of 0 adds nothing to a filter."""
    return x.float().div_(255)


class Batches:
    """The batches that a phase reads.

    Each epoch of each domain is a fresh permutation, repeated with new ones where the epoch is longer than the domain;
    what does not fill a batch is left out. Several ranks draw the same order of batches ``world`` times as big, and the same
    views of them; each takes its part.
    """

    def __init__(
        self,
        splits: Mapping[str, Split],
        batch_size: int,
        steps_per_epoch: int | None,
        device: Device,
        augment: Augment | None,
        stream: tuple[int, str],
        ranks: Ranks = ALONE,
    ):
        self.splits, self.batch_size, self.device, self.augment, self.stream = splits, batch_size, device, augment, stream
        self.ranks = ranks
        first = next(iter(splits.values()))
        self.steps = steps_per_epoch or max(1, len(first) // (batch_size * ranks.world))
        self._plan: dict[str, Tensor] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's order: {domain: int64 (steps, batch_size)} on the device."""
        for domain, split in self.splits.items():
            generator = randomness.generator(*self.stream, epoch, "order", domain)
            need = self.steps * self.ranks.world * self.batch_size
            passes = -(-need // len(split))
            order = torch.cat([torch.randperm(len(split), generator=generator) for _ in range(passes)])
            parts = order[:need].view(self.steps, self.ranks.world, self.batch_size)
            self._plan[domain] = parts[:, self.ranks.rank].to(self.device.torch)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step of this epoch; the caller has seeded the device's generator."""
        return Batch(**{domain: self._samples(domain, plan[step]) for domain, plan in self._plan.items()})

    def _samples(self, domain: str, index: Tensor) -> Samples:
        split = self.splits[domain]
        x = pixels(split.x[index])
        if self.augment:
            x = self.augment(x, None, self.ranks.rank, self.ranks.world)
        return Samples(self.device.lay_out(x), _at(split.y, index), index, _at(split.domain, index))


def _at(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]
