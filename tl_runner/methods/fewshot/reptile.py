"""Reptile: the first weights move towards those that a task's own training ends at.

Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 2, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad_and_value

from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
from tl_runner.methods.fewshot._base import task_loss
from tl_runner.methods.fewshot.maml import MAML, Weights

BETA2, EPS = 0.999, 1e-8  # of Adam without momentum (beta1 = 0), as in the authors' code


class Reptile(MAML):
    """The loss is half the squared distance to the adapted weights, held constant, so its gradient
    is theta - mean theta'.

    A training task is learned from whole, its support and its query set alike. With the outer SGD's
    rate epsilon the step is theta + epsilon (mean theta' - theta).

    Args:
        inner: as MAML's, and ``optimizer``: sgd, or adam with beta1 = 0, started afresh in each
            task; ``batch``: images a step, drawn from the task's without replacement until they are
            used up; None: all of them.
    """

    first_order = True

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

    def trajectory(
        self, z: Tensor, y: Tensor, order: Tensor, rate: float
    ) -> Iterator[tuple[Weights, Tensor]]:
        """Step by step (the weights after it, the loss before it)."""
        weights = self.start()
        second = {name: torch.zeros_like(w) for name, w in weights.items()}
        for step, rows in enumerate(order):
            gradients, loss = grad_and_value(
                lambda w, rows=rows: task_loss(self.outputs(w, z[rows]), y[rows])
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

    def outcome(
        self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor, *orders: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(half the squared distance that one task's training covers, the mean of its losses)."""
        begin, (order,) = self.start(), orders
        with torch.no_grad():
            both = torch.cat([x, asked]), torch.cat([y, truth])
            weights, losses = zip(*self.trajectory(*both, order, self.inner["rate"]), strict=True)
        distances = [(w - weights[-1][name].detach()).square().sum() for name, w in begin.items()]
        return torch.stack(distances).sum() / 2, torch.stack(losses).mean()

    def answers(
        self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor, *orders: Tensor
    ) -> Tensor:
        rate, (order,) = (
            self.inner["rate"] if self.inner["test_rate"] is None else self.inner["test_rate"],
            orders,
        )
        steps = self.trajectory(x, y, order, rate)
        return torch.stack(
            [
                self.asked(self.start(), x, asked),
                *(self.asked(weights, x, asked) for weights, _ in steps),
            ]
        )

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        order = self.order(torch.cat([batch.support.x, batch.query.x], 1), self.inner["steps"])
        distances, losses = self.over_tasks(self.outcome, batch.support, batch.query, order)
        return {"distance": distances.mean()}, {"inner_loss": losses.mean()}

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.scored(support, query, self.order(support.x, self.inner["test_steps"]))
