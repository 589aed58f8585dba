"""MAML: first weights from which a few gradient steps learn a new task, found by descending through
those steps.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017, algorithm 2, eq. 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

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
    from tl_runner.methods.setting import Setting


class MAML(MetaLearner):
    """The meta-gradient is exact, second derivatives and all; losses are means, over a task's
    samples and over tasks.

    Args:
        inner: ``steps`` and ``rate`` (alpha, of the mean loss) of training, ``test_steps`` and
            ``test_rate`` of scoring; a rate of None there is training's. ``every_step``: the query
            loss is the mean of those after each step, not the last one alone.
    """

    if_diverged = IF_DIVERGED

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        super().__init__(setting, inner=inner, **options)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        return self.mean_over_tasks(self.query_loss, batch)  # eq. 1

    def query_loss(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, metric) of a task's query set after the inner loop on its support set.

        Inputs (n, C, H, W) and (Q, C, H, W), labels (n,) and (Q,).
        """
        theta, steps = self.theta(), self.inner["steps"]
        alpha = dict.fromkeys(theta, self.inner["rate"])
        path = inner_loop(self.outputs, theta, alpha, support_x, support_y, steps)
        logits = [self.query_logits(w, support_x, query_x) for w in counted(path, self.inner)]
        return query_loss(logits, query_y)

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.over_test_tasks(self.inner_curve, support, query)

    def inner_curve(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        """One task's query logits after each inner step, (steps + 1, Q, K)."""
        theta, steps = self.theta(), self.inner["test_steps"]
        alpha = dict.fromkeys(theta, scoring_rate(self.inner))
        path = inner_loop(self.outputs, theta, alpha, support_x, support_y, steps)
        return torch.stack([self.query_logits(w, support_x, query_x) for w in path])
