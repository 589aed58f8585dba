"""ANIL: MAML whose inner loop changes the head alone; the body learns in the outer loop.

Raghu, Raghu, Bengio & Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML", ICLR 2020, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from tl_runner.methods.fewshot._base import MetaLearner
from tl_runner.methods.fewshot._inner_loop import (
    IF_DIVERGED,
    counted,
    inner_loop,
    query_loss,
    scoring_rate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.fewshot._inner_loop import Weights
    from tl_runner.methods.setting import Setting


class ANIL(MetaLearner):
    """A task's images pass through the body once, whatever the steps.

    Args:
        inner: as :class:`~tl_runner.methods.fewshot.maml.MAML`'s.
    """

    if_diverged = IF_DIVERGED

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        super().__init__(setting, inner=inner, **options)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        return self.mean_over_tasks(self.query_loss, batch)

    def query_loss(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, metric) of a task's query set after the inner loop on its support set.

        Inputs (n, C, H, W) and (Q, C, H, W), labels (n,) and (Q,).
        """
        support_z, query_z = self.embed(support_x, query_x)
        theta, steps = self.theta(), self.inner["steps"]
        alpha = dict.fromkeys(theta, self.inner["rate"])
        path = inner_loop(linear, theta, alpha, support_z, support_y, steps)
        logits = [linear(w, query_z) for w in counted(path, self.inner)]
        return query_loss(logits, query_y)

    def theta(self) -> Weights:
        """The first weights of the inner loop: the head's."""
        return {f"head.{name}": p for name, p in self.head.named_parameters()}

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.over_test_tasks(self.inner_curve, support, query)

    def inner_curve(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        """One task's query logits after each inner step, (steps + 1, Q, K)."""
        support_z, query_z = self.embed(support_x, query_x)
        theta, steps = self.theta(), self.inner["test_steps"]
        alpha = dict.fromkeys(theta, scoring_rate(self.inner))
        path = inner_loop(linear, theta, alpha, support_z, support_y, steps)
        return torch.stack([linear(w, query_z) for w in path])


def linear(weights: Weights, z: Tensor) -> Tensor:
    """Logits (n, K) of features (n, d) by a head's weights."""
    return F.linear(z, weights["head.weight"], weights["head.bias"])
