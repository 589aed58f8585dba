"""Batches of a phase: indexed out of tensors on the device, and augmented there as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.methods.batch import Batch, Samples
from tl_runner.training.distributed import ALONE, Ranks

if TYPE_CHECKING:
    from tl_runner.data.splits import Split
    from tl_runner.training.device import Device

# images and labels to mixed ones, of one batch
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# images, generator, part of the batch, parts
Augment = Callable[[Tensor, torch.Generator | None, int, int], Tensor]


def pixels(x: Tensor) -> Tensor:
    """Images in [0, 1], as every network sees them: uint8 divided by 255, as in ADDA's code, so
    that a background of 0 adds nothing to a filter.

    Floats, which are feature vectors, and tokens stay as they are.
    """
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def is_tokens(x: Tensor) -> bool:
    """Whether samples are tokens of texts, int32 (N, L, 1, 1), -1 behind the last."""
    return x.dtype == torch.int32


def lengths(x: Tensor) -> Tensor:
    """Number of tokens of each text, int64 (N,)."""
    return (x >= 0).flatten(1).sum(1)


@dataclass(frozen=True)
class Labelled:
    """How the labelled splits of a phase are balanced and mixed.

    Attributes:
        balance: ``sampling``, ``weights`` or None, as
            :attr:`tl_runner.methods.phases.Sampling.balance`.
        mixup, cutmix: alpha of either; 0 is off.
        classes: their number, by domain.
    """

    balance: str | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    classes: Mapping[str, int] = field(default_factory=dict)

    def mixers(self) -> dict[str, Mix]:
        """torchvision's transforms of a labelled batch, by domain; none where both are off."""
        if not self.mixup and not self.cutmix:
            return {}
        from torchvision.transforms import v2  # takes seconds to import

        kinds = [(v2.MixUp, self.mixup), (v2.CutMix, self.cutmix)]
        return {
            domain: v2.RandomChoice(
                [kind(alpha=float(alpha), num_classes=n) for kind, alpha in kinds if alpha]
            )
            for domain, n in self.classes.items()
        }


AS_THEY_ARE = Labelled()


class Batches:
    """The batches that a phase reads.

    Each epoch of each domain is a fresh permutation, repeated with new ones where the epoch is
    longer than the domain; what does not fill a batch is left out. Several ranks draw the same
    order of batches ``world`` times as big, and the same views of them; each takes its part.
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
        labelled: Labelled = AS_THEY_ARE,
    ):
        self.splits, self.batch_size, self.device = splits, batch_size, device
        self.augment, self.stream, self.ranks = augment, stream, ranks
        first = next(iter(splits.values()))
        self.steps = steps_per_epoch or max(1, len(first) // (batch_size * ranks.world))
        self._order: dict[str, Tensor] = {}  # of the epoch, (steps, batch_size) by domain
        self._epoch, self._balance, self._mixers = 0, labelled.balance, labelled.mixers()
        self._weights = {
            domain: class_weights(split.y, labelled.classes[domain]).to(device.torch)
            for domain, split in splits.items()
            if labelled.balance == "weights" and split.y is not None
        }

    @property
    def images(self) -> int:
        """Images of one step, on this rank."""
        return self.batch_size * len(self.splits)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's order: {domain: int64 (steps, batch_size)} on the device."""
        self._epoch = epoch
        for domain, split in self.splits.items():
            generator = randomness.generator(*self.stream, epoch, "order", domain)
            need = self.steps * self.ranks.world * self.batch_size
            if self._balance == "sampling" and split.y is not None:
                order = of_every_class_as_often(split.y.cpu(), need, generator)
            else:
                order = passes(len(split), need, generator)
            parts = order.view(self.steps, self.ranks.world, self.batch_size)
            self._order[domain] = parts[:, self.ranks.rank].to(self.device.torch)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step of this epoch; the caller has seeded the device's generator."""
        return Batch(
            **{
                domain: self._samples(domain, order[step], step)
                for domain, order in self._order.items()
            }
        )

    def _inputs(self, split: Split, index: Tensor) -> Tensor:
        """The samples at ``index``, or one view at random of those that views are kept of."""
        if split.views is None:
            return split.x[index]
        ranks, n, k = self.ranks, len(index), split.views.shape[1]
        drawn = torch.randint(k, (n * ranks.world,), device=index.device)
        return split.views[index, drawn[ranks.rank * n : (ranks.rank + 1) * n]]

    def _samples(self, domain: str, index: Tensor, step: int) -> Samples:
        split = self.splits[domain]
        x = self.device.lay_out(pixels(self._inputs(split, index)))
        if self.augment:
            x = self.augment(x, None, self.ranks.rank, self.ranks.world)
        y, also = _at(split.y, index), {name: values[index] for name, values in split.also.items()}
        if y is not None and domain in self._mixers:
            with randomness.seeded(
                *self.stream, self._epoch, step, "mix", domain, *self.ranks.stream
            ):
                x, y = self._mixers[domain](x, y)
        return Samples(
            self.device.lay_out(x),
            y,
            index,
            _at(split.domain, index),
            self._weights.get(domain),
            also,
        )


def passes(size: int, need: int, generator: torch.Generator) -> Tensor:
    """``need`` positions below ``size``: random permutations one after the other."""
    return torch.cat([torch.randperm(size, generator=generator) for _ in range(-(-need // size))])[
        :need
    ]


def of_every_class_as_often(y: Tensor, need: int, generator: torch.Generator) -> Tensor:
    """``need`` positions in labels ``y``, int64 (N,), in random order: every class that occurs
    equally often, up to one."""
    present = y.unique()
    shares = [
        (i + 1) * need // len(present) - i * need // len(present) for i in range(len(present))
    ]
    rows = [(y == c).nonzero().squeeze(1) for c in present]
    drawn = torch.cat(
        [
            own[passes(len(own), share, generator)]
            for own, share in zip(rows, shares, strict=True)
            if share
        ]
    )
    return drawn[torch.randperm(len(drawn), generator=generator)]


def class_weights(y: Tensor, classes: int) -> Tensor:
    """Weights of the classes, float (classes,): inverse to a class's number of labels in ``y``, 1
    where all have as many, and 1 for a class that does not occur."""
    counts = y.cpu().bincount(minlength=classes).float()
    present = counts > 0
    return torch.where(present, len(y) / (present.sum() * counts.clamp(min=1)), 1.0)


def _at(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]
