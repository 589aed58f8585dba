"""The inner loop: gradient descent on one task, from first weights that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from tl_runner.methods.fewshot._base import task_loss, task_metric

Weights = dict[str, Tensor]  # by name
Rates = Mapping[str, Tensor | float]  # alpha of each weight
Outputs = Callable[[Weights, Tensor], Tensor]  # of inputs (n, ...), (n, K)

IF_DIVERGED = (
    "Try a smaller method.inner.rate or test_rate, fewer inner steps, or a tenth of "
    "train.optimizer.lr."
)


def inner_step(outputs: Outputs, weights: Weights, rates: Rates, x: Tensor, y: Tensor) -> Weights:
    """One step of gradient descent, theta' = theta - alpha grad L(theta), L the mean loss of a set
    of inputs x (n, ...) and labels y (n,)."""
    gradients = grad(lambda w: task_loss(outputs(w, x), y))(weights)
    return {name: w - rates[name] * gradients[name] for name, w in weights.items()}


def inner_loop(
    outputs: Outputs, theta: Weights, rates: Rates, x: Tensor, y: Tensor, steps: int
) -> Iterator[Weights]:
    """The weights after 0, 1, ..., ``steps`` steps on a support set, (n, ...) and (n,)."""
    weights = theta
    yield weights
    for _ in range(steps):
        weights = inner_step(outputs, weights, rates, x, y)
        yield weights


def counted(path: Iterator[Weights], inner: Mapping[str, Any]) -> list[Weights]:
    """Those weights of an inner loop in training whose query loss counts: after the last step, or
    with ``every_step`` after each (Antoniou, Edwards & Storkey, "How to train your MAML", ICLR
    2019, section 4, its weights even)."""
    weights = [*path]
    return weights[1:] if inner["every_step"] else weights[-1:]


def query_loss(logits: list[Tensor], query_y: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, metric) of a task's query set by the logits, (Q, K) each, of :func:`counted` weights:
    the mean of their losses, and the metric of the last."""
    loss = torch.stack([task_loss(after, query_y) for after in logits]).mean()
    return loss, task_metric(logits[-1].detach(), query_y)


def scoring_rate(inner: Mapping[str, Any]) -> float:
    """alpha in scoring: that of training, unless it has one of its own."""
    return inner["rate"] if inner["test_rate"] is None else inner["test_rate"]
