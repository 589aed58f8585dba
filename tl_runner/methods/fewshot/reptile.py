"""Reptile: the first weights move towards those that a task's own training ends at.

Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 2, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import grad_and_value

from tl_runner.methods.fewshot._base import MetaLearner, task_loss
from tl_runner.methods.fewshot._inner_loop import IF_DIVERGED, scoring_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.fewshot._inner_loop import Weights
    from tl_runner.methods.setting import Setting

BETA2, EPS = 0.999, 1e-8  # of Adam without momentum (beta1 = 0), as in the authors' code


class Reptile(MetaLearner):
    """The loss is half the squared distance to the adapted weights, held constant, so its gradient
    is theta - mean theta'.

    A training task is learned from whole, its support and its query set alike. With the outer SGD's
    rate epsilon the step is theta + epsilon (mean theta' - theta).

    Args:
        inner: ``steps`` and ``rate`` of training, ``test_steps`` and ``test_rate`` of scoring; a
            rate of None there is training's. ``optimizer``: sgd, or adam with beta1 = 0, started
            afresh in each task; ``batch``: images a step, drawn from the task's without replacement
            until they are used up; None: all of them.
    """

    if_diverged = IF_DIVERGED

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        super().__init__(setting, inner=inner, **options)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        order = self.order(torch.cat([batch.support.x, batch.query.x], 1), self.inner["steps"])
        distances, losses = self.over_tasks(self.distance, batch.support, batch.query, order)
        return {"distance": distances.mean()}, {"inner_loss": losses.mean()}

    def distance(
        self,
        support_x: Tensor,
        support_y: Tensor,
        query_x: Tensor,
        query_y: Tensor,
        order: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Half the squared distance that one task's training covers, and the mean of its losses.

        Inputs (n, C, H, W) and (Q, C, H, W), labels (n,) and (Q,), images of each step (steps,
        batch).
        """
        theta, rate = self.theta(), self.inner["rate"]
        with torch.no_grad():
            x, y = torch.cat([support_x, query_x]), torch.cat([support_y, query_y])
            fast_weights, losses = zip(*self.task_training(x, y, order, rate), strict=True)
        adapted = fast_weights[-1]
        distances = [(w - adapted[name].detach()).square().sum() for name, w in theta.items()]
        return torch.stack(distances).sum() / 2, torch.stack(losses).mean()

    def task_training(
        self, x: Tensor, y: Tensor, order: Tensor, rate: float
    ) -> Iterator[tuple[Weights, Tensor]]:
        """A task's own training, step by step: (the weights after it, the loss before it)."""
        weights = self.theta()
        second = {name: torch.zeros_like(w) for name, w in weights.items()}
        for step, rows in enumerate(order):
            gradients, loss = grad_and_value(
                lambda w, rows=rows: task_loss(self.outputs(w, x[rows]), y[rows])
            )(weights)
            if self.inner["optimizer"] == "adam":
                second = {
                    name: BETA2 * s + (1 - BETA2) * gradients[name].square()
                    for name, s in second.items()
                }
                unbiased = 1 - BETA2 ** (step + 1)
                gradients = {
                    name: g / ((second[name] / unbiased).sqrt() + EPS)
                    for name, g in gradients.items()
                }
            weights = {name: w - rate * gradients[name] for name, w in weights.items()}
            yield weights, loss

    def order(self, x: Tensor, steps: int) -> Tensor:
        """The images of each step in each of T tasks of inputs (T, n, ...): positions, (T, steps,
        batch).

        Drawn for all tasks of a part at once: on a CPU the same however a meta-batch is cut.
        """
        tasks, n = x.shape[:2]
        size = min(self.inner["batch"] or n, n)
        if size == n:
            return torch.arange(n, device=x.device).expand(tasks, steps, n)
        passes = torch.rand(tasks, -(-steps * size // n), n, device=x.device).argsort(2)
        return passes.flatten(1)[:, : steps * size].unflatten(1, (steps, size))

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        order = self.order(support.x, self.inner["test_steps"])
        return self.over_test_tasks(self.inner_curve, support, query, order)

    def inner_curve(
        self,
        support_x: Tensor,
        support_y: Tensor,
        query_x: Tensor,
        query_y: Tensor,
        order: Tensor,
    ) -> Tensor:
        """One task's query logits after each step on its support set, (steps + 1, Q, K)."""
        steps = self.task_training(support_x, support_y, order, scoring_rate(self.inner))
        first = self.query_logits(self.theta(), support_x, query_x)
        after = [self.query_logits(weights, support_x, query_x) for weights, _ in steps]
        return torch.stack([first, *after])
