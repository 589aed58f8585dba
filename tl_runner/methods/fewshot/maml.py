"""MAML: first weights from which a few gradient steps learn a new task, found by descending through
those steps.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017, algorithm 2, eq. 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from tl_runner.backbones._batch_norm import as_support
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
from tl_runner.methods.fewshot._base import CHUNKS, MetaLearner, task_loss, task_metric

Weights = dict[str, Tensor]


class MAML(MetaLearner):
    """The meta-gradient is exact, second derivatives and all; losses are means, over a task's
    samples and over tasks.

    Args:
        inner: ``steps`` and ``rate`` (alpha, of the mean loss) of training, ``test_steps`` and
            ``test_rate`` of scoring; a rate of None there is training's. ``every_step``: the query
            loss is the mean of those after each step, not the last one alone (the multi-step loss
            of Antoniou, Edwards & Storkey, "How to train your MAML", ICLR 2019, section 4, its
            weights even).
    """

    first_order = False
    if_diverged = (
        "Try a smaller method.inner.rate or test_rate, fewer inner steps, or a tenth of "
        "train.optimizer.lr."
    )

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        super().__init__(setting, **options)
        self.inner = inner
        self.head = self.fresh(
            "head", lambda: nn.Linear(self.encoder.out_features, setting.num_classes)
        )
        self.protocol = ", ".join(
            filter(None, [self.protocol, f"{inner['test_steps']} inner steps"])
        )

    def trained(self) -> list[nn.Module]:
        return [self.encoder, self.head]

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, C, H, W) to outputs (B, K) of the weights that are in place."""
        return self.head(self.encoder(x))

    # ---- the inner loop, of one task

    def start(self) -> Weights:
        """The weights that the inner loop changes, as it finds them: theta."""
        return {
            name: p for name, p in self.named_parameters() if name.startswith(("encoder.", "head."))
        }

    def rates(self, test: bool) -> Mapping[str, Tensor | float]:
        """alpha of each of them."""
        rate = (
            self.inner["rate"]
            if not test or self.inner["test_rate"] is None
            else self.inner["test_rate"]
        )
        return dict.fromkeys(self.start(), rate)

    def sets(self, x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """What the inner loop reads of the support and the query inputs."""
        return x, asked

    def outputs(self, weights: Weights, z: Tensor) -> Tensor:
        """(n, K) of what :meth:`sets` gave."""
        return functional_call(self, weights, (z,))

    def descended(
        self, weights: Weights, rates: Mapping[str, Tensor | float], z: Tensor, y: Tensor
    ) -> Weights:
        """theta' = theta - alpha grad L(theta), L the mean loss on the support set."""
        gradients = grad(lambda w: task_loss(self.outputs(w, z), y))(weights)
        return {name: w - rates[name] * gradients[name] for name, w in weights.items()}

    def adapted(self, z: Tensor, y: Tensor) -> list[Weights]:
        """After each inner step of training whose query loss counts; of first order, a step counts
        as a constant's being added."""
        begin, rates = self.start(), self.rates(test=False)
        weights = [begin]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.first_order):
            for _ in range(self.inner["steps"]):
                weights.append(self.descended(weights[-1], rates, z, y))
        counted = weights[1:] if self.inner["every_step"] else weights[-1:]
        if not self.first_order:
            return counted
        return [
            {name: w + (after[name] - w).detach() for name, w in begin.items()} for after in counted
        ]

    def asked(self, weights: Weights, z: Tensor, asked: Tensor) -> Tensor:
        """Outputs for the query set, normalised as ``bn`` says."""
        if self.bn == "support" and self.normed:
            with as_support(self.encoder):
                self.outputs(weights, z)
                return self.outputs(weights, asked)
        return self.outputs(weights, asked)

    # ---- tasks

    def outcome(
        self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, metric) of one task: its support inputs (n, C, H, W) and labels (n,), its query
        inputs and labels, what else it has."""
        z, asked = self.sets(x, asked)
        said = [self.asked(weights, z, asked) for weights in self.adapted(z, y)]
        return torch.stack([task_loss(s, truth) for s in said]).mean(), task_metric(
            said[-1].detach(), truth
        )

    def answers(self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor, *more: Tensor) -> Tensor:
        """One task's outputs after each inner step, (steps + 1, Q, K)."""
        z, asked = self.sets(x, asked)
        weights, rates = self.start(), self.rates(test=True)
        said = [self.asked(weights, z, asked)]
        for _ in range(self.inner["test_steps"]):
            weights = self.descended(weights, rates, z, y)
            said.append(self.asked(weights, z, asked))
        return torch.stack(said)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        losses, metrics = self.over_tasks(self.outcome, batch.support, batch.query)
        return {"query": losses.mean()}, {} if batch.query.y.is_floating_point() else {
            "accuracy": metrics.mean()
        }

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.scored(support, query)

    def scored(self, support: TaskSet, query: TaskSet, *more: Tensor) -> Tensor:
        """:meth:`answers` of T tasks."""
        return self.over_tasks(self.answers, support, query, *more, chunk=self.chunk or CHUNKS[1])
