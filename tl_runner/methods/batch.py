"""What a step reads and returns: batches of samples or of few-shot tasks, losses, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

from torch import Tensor

Losses = Mapping[str, Tensor]  # scalars; their sum is minimised
Metrics = Mapping[str, Tensor]  # scalars to be averaged over an epoch; no gradient


@dataclass
class Samples:
    """One domain's part of a batch.

    Attributes:
        x: images, float (B, C, H, W).
        y: labels, int64 (B,); where images are mixed, the shares of the classes, float (B, K); None
            without labels.
        index: positions in the split, int64 (B,).
        domain: which of several sources or targets each image is from, int64 (B,); None where there
            is one.
        also: labels of further tasks, by name, each (B,).
        class_weight: what a sample of each class counts in the classification loss, float (K,);
            None: all alike.
    """

    x: Tensor
    y: Tensor | None
    index: Tensor
    domain: Tensor | None = None
    class_weight: Tensor | None = None
    also: Mapping[str, Tensor] = field(default_factory=dict)

    def part(self, number: int, parts: int) -> Samples:
        """One of several equal parts."""
        rows = slice(number * len(self.x) // parts, (number + 1) * len(self.x) // parts)
        y, domain = (None if values is None else values[rows] for values in (self.y, self.domain))
        also = {name: values[rows] for name, values in self.also.items()}
        return Samples(self.x[rows], y, self.index[rows], domain, self.class_weight, also)


@dataclass
class TaskSet:
    """The support or the query sets of T tasks.

    Attributes:
        x: inputs, float (T, n, C, H, W).
        y: classes from 0 to ways - 1, int64 (T, n), or numbers, float (T, n).
        index: positions in the split, int64 (T, n).
        ways: classes of a task; 1 where numbers are asked for.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    ways: int

    def part(self, number: int, parts: int) -> TaskSet:
        """One of several equal parts of the tasks."""
        rows = slice(number * len(self.x) // parts, (number + 1) * len(self.x) // parts)
        return TaskSet(self.x[rows], self.y[rows], self.index[rows], self.ways)


class Batch(SimpleNamespace):
    """The domains that a phase reads, by name: ``batch.source.x``, ``batch.target.x``.

    Of few-shot tasks these are ``batch.support`` and ``batch.query``. ``batch.precomputed`` has the
    tensors that the phase's hooks made of whole splits, by name.
    """

    def samples(self) -> dict[str, Samples]:
        """Samples of every domain by name, in the order that the phase reads them."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Samples)}

    def part(self, number: int, parts: int) -> Batch:
        """A batch of one of several equal parts of each domain."""
        return Batch(
            **{
                k: v.part(number, parts) if isinstance(v, Samples | TaskSet) else v
                for k, v in vars(self).items()
            }
        )


class SplitPasses(Protocol):
    """Passes over whole splits of a phase, for its hooks.

    Attributes:
        epoch: the number of the one that begins.
    """

    epoch: int

    def __call__(
        self, network: Callable[[Tensor], Tensor], domain: str, most: int | None = None
    ) -> Tensor:
        """Outputs of a network for a domain's split, float32 (N, ...).

        The network is in eval mode, and the images are not augmented. With ``most`` only so many
        samples at the most are passed, spread evenly over the split.
        """

    def labels(self, domain: str, most: int | None = None) -> Tensor:
        """Labels of a labelled split, int64 (N,), or of the same samples of it."""

    def size(self, domain: str) -> int:
        """Number of images of a domain's split."""
