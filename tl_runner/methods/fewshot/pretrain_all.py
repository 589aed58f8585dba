"""Plain pretraining on all tasks together, the baseline of the sinusoids: then as many gradient
steps as MAML takes.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import ConfigError
from tl_runner.methods.fewshot._base import MetaLearner, task_loss, task_metric
from tl_runner.methods.fewshot._inner_loop import IF_DIVERGED, inner_loop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.setting import Setting


class PretrainAll(MetaLearner):
    """A training task is learned whole, support and query set alike, without any inner step.

    Where tasks number their classes at random there is nothing to learn so.

    Args:
        inner: ``test_steps`` and ``test_rate`` of scoring.
    """

    if_diverged = IF_DIVERGED

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        if inner["test_rate"] is None:
            raise ConfigError(
                [
                    "method.inner.test_rate: there is no rate of training that it could be. Set "
                    "it to a number."
                ]
            )
        super().__init__(setting, inner=inner, **options)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        return self.mean_over_tasks(self.joint_loss, batch)

    def joint_loss(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, metric) of both sets of a task at the weights that all tasks share.

        Inputs (n, C, H, W) and (Q, C, H, W), labels (n,) and (Q,).
        """
        logits = self.outputs(self.theta(), torch.cat([support_x, query_x]))
        y = torch.cat([support_y, query_y])
        return task_loss(logits, y), task_metric(logits.detach(), y)

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.over_test_tasks(self.inner_curve, support, query)

    def inner_curve(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        """One task's query logits after each inner step, (steps + 1, Q, K)."""
        theta, steps = self.theta(), self.inner["test_steps"]
        alpha = dict.fromkeys(theta, self.inner["test_rate"])
        path = inner_loop(self.outputs, theta, alpha, support_x, support_y, steps)
        return torch.stack([self.query_logits(w, support_x, query_x) for w in path])
