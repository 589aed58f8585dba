"""Reptile: the first weights move towards those that a task's own training ends at.

Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 2, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad_and_value

from tl_runner.methods.maml import MAML, Weights
from tl_runner.methods.meta_learning import task_loss
from tl_runner.methods.phases import Batch, Losses, Metrics

BETA2, EPS = 0.999, 1e-8  # of Adam without momentum (beta1 = 0), as in the authors' code


class Reptile(MAML):
    """The loss is half the squared distance to the adapted weights, held constant, so its gradient is theta - mean theta'.

    Training tasks have no query set. With the outer SGD's rate epsilon that is theta + epsilon (mean theta' - theta).

    Args:
        inner: as MAML's, and ``optimizer``: sgd, or adam with beta1 = 0, started afresh in each task; ``batch``: images a step, drawn
            from the support set without replacement until it is used up; None: all of it.
    """

    first_order = True

    def trajectory(self, z: Tensor, y: Tensor, steps: int, rate: float) -> Iterator[tuple[Weights, Tensor]]:
        """Step by step (the weights after it, the loss before it)."""
        weights, size = self.start(), min(self.inner["batch"] or len(y), len(y))
        second = {name: torch.zeros_like(w) for name, w in weights.items()}
        order = [torch.rand(len(y), device=y.device).argsort() for _ in range(-(-steps * size // len(y)))] if size < len(y) else []
        for step in range(steps):
            rows = torch.cat(order)[step * size : (step + 1) * size] if order else slice(None)
            gradients, loss = grad_and_value(lambda w, rows=rows: task_loss(self.outputs(w, z[rows]), y[rows]))(weights)
            if self.inner["optimizer"] == "adam":
                second = {name: BETA2 * s + (1 - BETA2) * gradients[name].square() for name, s in second.items()}
                unbiased = 1 - BETA2 ** (step + 1)
                gradients = {name: g / ((second[name] / unbiased).sqrt() + EPS) for name, g in gradients.items()}
            weights = {name: w - rate * gradients[name] for name, w in weights.items()}
            yield weights, loss

    def outcome(self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """(half the squared distance that one task's training covers, the mean of its losses)."""
        begin = self.start()
        with torch.no_grad():
            weights, losses = zip(*self.trajectory(x, y, self.inner["steps"], self.inner["rate"]), strict=True)
        distances = [(w - weights[-1][name].detach()).square().sum() for name, w in begin.items()]
        return torch.stack(distances).sum() / 2, torch.stack(losses).mean()

    def answers(self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor) -> Tensor:
        rate = self.inner["rate"] if self.inner["test_rate"] is None else self.inner["test_rate"]
        steps = self.trajectory(x, y, self.inner["test_steps"], rate)
        return torch.stack([self.asked(self.start(), x, asked), *(self.asked(weights, x, asked) for weights, _ in steps)])

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        distances, losses = self.over_tasks(self.outcome, batch.support, batch.query)
        return {"distance": distances.mean()}, {"support": losses.mean()}
