"""Few-shot tasks, a whole meta-batch at once: each has a support set and a query set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from tl_runner.data.splits import Split
from tl_runner.errors import DataError


@dataclass(frozen=True)
class Drawn:
    """Support and query sets of T tasks.

    Attributes:
        support, query: inputs (T, n, C, H, W), images uint8.
        support_y, query_y: classes from 0 to ways - 1, int64 (T, n), or numbers, float32 (T, n).
        support_index, query_index: positions in the split, int64 (T, n); of tasks that have none 0.
    """

    support: Tensor
    support_y: Tensor
    support_index: Tensor
    query: Tensor
    query_y: Tensor
    query_index: Tensor


class Episodes(ABC):
    """Endless supply of few-shot tasks.

    Attributes:
        shape: (C, H, W) of an input.
        ways: classes of a task; 1: a number is asked for.
        shots, queries: samples of each class in the support and in the query set.
        scored: how many tasks a score is a mean over; 0: these are for training.
        split: the samples that tasks are drawn from; None: they are drawn from nothing that is
            stored.
    """

    split: Split | None = None
    shape: tuple[int, int, int]
    ways: int
    shots: int
    queries: int
    scored: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of classes that the tasks are made of."""

    @abstractmethod
    def plan(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Everything that tells ``tasks`` new tasks from others, (tasks, ...), on the CPU."""

    @abstractmethod
    def at(self, plan: Tensor) -> Drawn:
        """Support and query sets of a plan, which lies where these episodes do."""

    @abstractmethod
    def to(self, device: torch.device) -> Episodes:
        """These episodes on a device."""

    def of(self, split: Split) -> Episodes:
        """These episodes of other inputs, whose labels are those of :attr:`split`.

        Raises:
            TypeError: they are drawn from nothing that is stored.
        """
        raise TypeError(f"{type(self).__name__}: no inputs are stored that others could replace")

    @property
    def numbers(self) -> bool:
        """True if the label is a number, not a class."""
        return self.ways == 1


class ImageEpisodes(Episodes):
    """N-way K-shot tasks over the classes of a split.

    N classes in random order, of each K images for the support and Q others for the query set.

    Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, section 4.

    Args:
        split: labelled.
        name: of the split, for messages, as is ``section``: where its settings stand.

    Raises:
        DataError: fewer than N classes, or a class of fewer than K + Q images.
    """

    split: Split

    def __init__(
        self,
        split: Split,
        name: str,
        *,
        ways: int,
        shots: int,
        queries: int,
        scored: int = 0,
        section: str = "data",
    ):
        assert split.y is not None
        c, h, w = split.x.shape[1:]
        self.shape, self.ways, self.shots, self.queries = (c, h, w), ways, shots, queries
        self.split, self.scored = split, scored
        classes, counts = split.y.unique(return_counts=True)
        if len(classes) < ways:
            raise DataError(
                f"{name} has {len(classes)} classes, and a task takes {ways}: lower "
                f"{section}.ways, or give that part more classes."
            )
        if int(counts.min()) < shots + queries:
            raise DataError(
                f"{name}: a class has {int(counts.min())} images, and a task takes {shots} to "
                f"learn from and {queries} to be asked "
                f"about. Lower {section}.shots or {section}.queries."
            )
        counts = counts.cpu()  # tasks are drawn there
        self._rows = split.y.cpu().argsort(stable=True)  # positions by class
        self._counts, self._first, self._most = counts, counts.cumsum(0) - counts, int(counts.max())

    def __len__(self) -> int:
        return len(self._counts)

    def plan(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Positions in the split, int64 (tasks, ways, shots + queries).

        A task's classes differ, and so do a class's images.
        """
        classes = torch.rand(tasks, len(self), generator=generator).topk(self.ways).indices
        counts = self._counts[classes]
        keys = torch.rand(tasks, self.ways, self._most, generator=generator)
        keys.masked_fill_(torch.arange(keys.shape[2]) >= counts[..., None], -1.0)
        images = keys.topk(self.shots + self.queries).indices
        return self._rows[self._first[classes][..., None] + images]

    def at(self, plan: Tensor) -> Drawn:
        tasks = len(plan)
        y = torch.arange(self.ways, device=plan.device)[:, None]
        parts = []
        for index, n in zip(
            plan.split((self.shots, self.queries), 2), (self.shots, self.queries), strict=True
        ):
            rows = index.reshape(tasks, -1)
            parts += [self.split.x[rows], y.expand(-1, n).reshape(1, -1).expand(tasks, -1), rows]
        return Drawn(*parts)

    def to(self, device: torch.device) -> ImageEpisodes:
        return self.of(self.split.to(device))

    def of(self, split: Split) -> ImageEpisodes:
        return ImageEpisodes(
            split,
            "",
            ways=self.ways,
            shots=self.shots,
            queries=self.queries,
            scored=self.scored,
        )
