"""The family of few-shot methods: what is learned from tasks, how tasks are batched, how scored."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from tl_runner.backbones._batch_norm import norms_of
from tl_runner.backbones._episode_norm import as_support, episodic
from tl_runner.methods.base import Method
from tl_runner.methods.phases import Batching, Outputs, Phase, Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.fewshot._inner_loop import Weights
    from tl_runner.methods.setting import Setting

CHUNKS = (4, 8, 16, 32)  # tasks at once that auto tries, and all of them


class MetaLearner(Method):
    """A backbone that learns from tasks, in one phase: ``meta``, on the meta-training classes.

    Args:
        bn: ``transductive``: batch norm normalises a task's query images by their own statistics;
            ``support``: by the support set's; ``running``, where a method can: by those of
            training.
        task_batching: ``vmap``: tasks go through the network together; ``loop``: one after the
            other; ``auto``: as is fastest here.
        chunk: tasks at once with ``vmap``; None: all of the meta-batch, in scoring ``CHUNKS[1]``.
        meta: lengths and optimiser; its batch_size counts tasks.
        inner: steps and rates of the gradient descent that adapts to a task, of a method that has
            any. Such a method has a linear ``head`` on its backbone.
    """

    couples = False  # a task's loss and another's
    head: nn.Linear

    def __init__(
        self,
        setting: Setting,
        *,
        bn: str,
        task_batching: str,
        chunk: int | None,
        meta: Mapping[str, Any],
        inner: Mapping[str, Any] | None = None,
    ):
        super().__init__(setting)
        self.bn, self.meta, self.inner = bn, meta, inner or {}
        self.batching, self.chunk, self.together = task_batching, chunk, task_batching != "loop"
        self.encoder = self.fresh("backbone", setting.make_backbone)
        self.normed = bool(norms_of(self.encoder))
        protocol = [f"batch norm: {bn}"] if self.normed else []
        if bn != "running":
            episodic(self.encoder)
        if bn == "support" and not self.normed:
            self.warnings = ["method.bn=support changes nothing: this network has no batch norm."]
        if inner is not None:
            features, outputs = self.encoder.out_features, setting.num_classes
            self.head = self.fresh("head", lambda: nn.Linear(features, outputs))
            protocol.append(f"{inner['test_steps']} inner steps")
        self.protocol = ", ".join(protocol)

    # ---- the phase

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
                outputs=Outputs(self.predict, domains=("meta",), curve=self.curve),
                sampling=Sampling.of(self.meta, augment=False),
                batching=Batching(self.batching_choices(self.meta["batch_size"]), self.follow),
            )
        ]

    def trained(self) -> list[nn.Module]:
        """The networks that the outer loop trains."""
        return [self.encoder, self.head] if self.inner else [self.encoder]

    @abstractmethod
    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """Losses of a meta-batch: ``batch.support`` and ``batch.query`` have x (T, n, C, H, W) and
        y (T, n)."""

    @abstractmethod
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        """Outputs for the query sets of T tasks after 0, 1, ... inner steps, (T, steps + 1, Q, K);
        nothing of the method changes."""

    def predict(self, x: Tensor) -> Tensor:
        """Raises TypeError: no picture is classified without a task's support set."""
        raise TypeError("a few-shot learner predicts from a task's support set: see curve")

    # ---- tasks of a meta-batch

    def batching_choices(self, tasks: int) -> dict[str, int]:
        """The ways of batching that are measured, by name: parts that a meta-batch is cut into. One
        alone is taken unmeasured."""
        together = {f"vmap of {n}": tasks // n for n in sorted({*CHUNKS, tasks}) if tasks % n == 0}
        size = self.chunk or tasks
        return {
            "auto": {"loop": tasks} | together,
            "loop": {"loop": tasks},
            "vmap": {f"vmap of {size}": tasks // size},
        }[self.batching]

    def follow(self, choice: str) -> None:
        """Batch tasks by one of :meth:`batching_choices`."""
        self.together = choice != "loop"

    def over_tasks(
        self,
        of_task: Callable[..., Any],
        support: TaskSet,
        query: TaskSet,
        *more: Tensor,
        chunk: int | None = None,
    ) -> Any:
        """Results of ``of_task(support x, y, query x, y, ...)`` for each task, stacked.

        Args:
            of_task: to a tensor or a tuple of tensors.
            more: further tensors (T, ...), of which it takes a row each.
            chunk: tasks at once with ``vmap``; None: all.
        """
        tensors = (support.x, support.y, query.x, query.y, *more)
        if self.together:
            return vmap(of_task, randomness="different", chunk_size=chunk)(*tensors)
        found = [of_task(*task) for task in zip(*tensors, strict=True)]
        if isinstance(found[0], torch.Tensor):
            return torch.stack(found)
        return tuple(torch.stack(part) for part in zip(*found, strict=True))

    def over_test_tasks(
        self, inner_curve: Callable[..., Tensor], support: TaskSet, query: TaskSet, *more: Tensor
    ) -> Tensor:
        """:meth:`over_tasks` in scoring: some tasks at once, whatever their number."""
        return self.over_tasks(inner_curve, support, query, *more, chunk=self.chunk or CHUNKS[1])

    def mean_over_tasks(
        self, query_loss: Callable[..., tuple[Tensor, Tensor]], batch: Batch
    ) -> tuple[Losses, Metrics]:
        """Means over a meta-batch of each task's (loss, metric); a squared error is no accuracy."""
        losses, metrics = self.over_tasks(query_loss, batch.support, batch.query)
        numbers = batch.query.y.is_floating_point()
        return {"query": losses.mean()}, {} if numbers else {"accuracy": metrics.mean()}

    # ---- one task: its networks, with weights of its own

    def embed(self, support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of one task's sets, (n, d) and (Q, d), normalised as ``bn`` says."""
        if self.bn == "support" and self.normed:
            with as_support(self.encoder):
                return self.encoder(support_x), self.encoder(query_x)
        return self.encoder(support_x), self.encoder(query_x)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, C, H, W) to outputs (B, K) of the weights that are in place."""
        return self.head(self.encoder(x))

    def theta(self) -> Weights:
        """The first weights of the inner loop: the backbone's and the head's."""
        return {
            name: p for name, p in self.named_parameters() if name.startswith(("encoder.", "head."))
        }

    def outputs(self, weights: Weights, x: Tensor) -> Tensor:
        """Outputs (n, K) for inputs (n, C, H, W), of ``weights`` in place of :meth:`theta`."""
        return functional_call(self, weights, (x,))

    def query_logits(self, weights: Weights, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Outputs (Q, K) for the query set, normalised as ``bn`` says."""
        if self.bn == "support" and self.normed:
            with as_support(self.encoder):
                self.outputs(weights, support_x)
                return self.outputs(weights, query_x)
        return self.outputs(weights, query_x)


def task_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean loss of the samples of one task: cross-entropy of logits (n, K) and classes, or the
    squared error of outputs (n, 1) and numbers."""
    return F.mse_loss(logits[:, 0], y) if y.is_floating_point() else F.cross_entropy(logits, y)


def task_metric(logits: Tensor, y: Tensor) -> Tensor:
    """Accuracy of one task, a fraction; of numbers the squared error."""
    if y.is_floating_point():
        return F.mse_loss(logits[:, 0], y)
    return (logits.argmax(1) == y).float().mean()
