"""What few-shot methods have in common: tasks, how they are batched, how they are scored. No method
by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from tl_runner.backbones._batch_norm import as_support, episodic, norms_of
from tl_runner.methods.base import Method, Setting
from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
from tl_runner.methods.phases import Batching, Outputs, Phase, Sampling, Update

CHUNKS = (4, 8, 16, 32)  # tasks at once that auto tries, and all of them
OneTask = Callable[..., Any]  # of support x, y and query x, y of one task, and what else it has


class MetaLearner(Method):
    """Phases: ``meta``, on tasks of the meta-training classes.

    Args:
        bn: ``transductive``: batch norm normalises a task's query images by their own statistics;
            ``support``: by the support set's; ``running``, where a method can: by those of
            training.
        task_batching: ``vmap``: tasks go through the network together; ``loop``: one after the
            other; ``auto``: as is fastest here.
        chunk: tasks at once with ``vmap``; None: all of the meta-batch, in scoring ``CHUNKS[1]``.
        meta: lengths and optimiser; its batch_size counts tasks.
    """

    couples = False  # a task's loss and another's

    def __init__(
        self,
        setting: Setting,
        *,
        bn: str,
        task_batching: str,
        chunk: int | None,
        meta: Mapping[str, Any],
    ):
        super().__init__(setting)
        self.bn, self.meta = bn, meta
        self.encoder = self.fresh("backbone", setting.make_backbone)
        self.normed = bool(norms_of(self.encoder))
        if bn != "running":
            episodic(self.encoder)
        self.batching, self.chunk, self.together = task_batching, chunk, task_batching != "loop"
        self.protocol = f"batch norm: {bn}" if self.normed else ""
        if bn == "support" and not self.normed:
            self.warnings = ["method.bn=support changes nothing: this network has no batch norm."]

    # ---- what a method says

    @abstractmethod
    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """batch.support and batch.query: x (T, n, C, H, W), y (T, n)."""

    @abstractmethod
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        """Outputs for the query sets of T tasks after 0, 1, ... inner steps, (T, steps + 1, Q, K);
        nothing of the method changes."""

    # ---- phases

    def phases(self) -> list[Phase]:
        update = Update(
            "meta", self.trained(), self.meta["optimizer"], self.step, couples=self.couples
        )
        return [
            Phase.of(
                self.meta,
                name="meta",
                reads={"tasks": "meta_train"},
                updates=[update],
                outputs=Outputs(self.unasked, domains=("meta",)),
                sampling=Sampling.of(self.meta, augment=False),
                batching=Batching(self.batching_choices(self.meta["batch_size"]), self.follow),
            )
        ]

    def trained(self) -> list[nn.Module]:
        """What the outer loop trains."""
        return [self.encoder]

    def unasked(self, x: Tensor) -> Tensor:
        raise NotImplementedError("what a few-shot learner says depends on a task's support set")

    def batching_choices(self, tasks: int) -> dict[str, int]:
        """The ways of batching that are measured, by name: parts that a meta-batch is cut into. One
        alone is taken unmeasured."""
        together = {f"vmap of {n}": tasks // n for n in sorted({*CHUNKS, tasks}) if tasks % n == 0}
        every = {"loop": tasks} | together
        if self.batching == "auto":
            return every
        size = self.chunk or tasks
        return {"loop": tasks} if self.batching == "loop" else {f"vmap of {size}": tasks // size}

    def follow(self, plan: str) -> None:
        """Batch tasks as a plan of :meth:`batching_choices` says."""
        self.together = plan != "loop"

    def over_tasks(
        self,
        task: OneTask,
        support: TaskSet,
        query: TaskSet,
        *more: Tensor,
        chunk: int | None = None,
    ) -> Any:
        """What ``task`` gives for each task, stacked; ``more`` are other tensors (T, ...) that it
        takes a row of."""
        tensors = (support.x, support.y, query.x, query.y, *more)
        if self.together:
            return vmap(task, randomness="different", chunk_size=chunk)(*tensors)
        found = [task(*one) for one in zip(*tensors, strict=True)]
        return (
            torch.stack(found)
            if isinstance(found[0], Tensor)
            else tuple(torch.stack(part) for part in zip(*found, strict=True))
        )

    def embed(self, x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Features of one task's sets, normalised as ``bn`` says."""
        if self.bn == "support" and self.normed:
            with as_support(self.encoder):
                return self.encoder(x), self.encoder(asked)
        return self.encoder(x), self.encoder(asked)


def task_loss(said: Tensor, y: Tensor) -> Tensor:
    """A mean over the samples: cross-entropy of logits (n, K) and classes, or the squared error of
    outputs (n, 1) and numbers."""
    return F.mse_loss(said[:, 0], y) if y.is_floating_point() else F.cross_entropy(said, y)


def task_metric(said: Tensor, y: Tensor) -> Tensor:
    """Accuracy, a fraction; of numbers the squared error."""
    return (
        F.mse_loss(said[:, 0], y) if y.is_floating_point() else (said.argmax(1) == y).float().mean()
    )
