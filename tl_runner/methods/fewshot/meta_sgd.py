"""Meta-SGD: MAML that also learns the inner rates, one for each weight.

Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017, algorithm 1,
eq. 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tl_runner.errors import ConfigError
from tl_runner.methods.fewshot._base import MetaLearner
from tl_runner.methods.fewshot._inner_loop import counted, inner_loop, query_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.fewshot._inner_loop import Weights
    from tl_runner.methods.setting import Setting


class MetaSGD(MetaLearner):
    """``inner.rate`` is what all rates start from, and ``inner.test_rate`` null.

    Args:
        inner: as :class:`~tl_runner.methods.fewshot.maml.MAML`'s.
    """

    if_diverged = (
        "Try a smaller method.inner.rate, fewer inner steps, or a tenth of train.optimizer.lr."
    )

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        if inner["test_rate"] is not None:
            raise ConfigError(
                [
                    "method.inner.test_rate: Meta-SGD learns its rates, and tests take them too. "
                    "Leave it null."
                ]
            )
        super().__init__(setting, inner=inner, **options)
        every = {name: torch.full_like(w, inner["rate"]) for name, w in self.theta().items()}
        self.alpha = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(rate) for name, rate in every.items()}
        )

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.alpha]

    def rates(self) -> Weights:
        """alpha of each of theta."""
        return {name: self.alpha[name.replace(".", "/")] for name in self.theta()}

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        return self.mean_over_tasks(self.query_loss, batch)

    def query_loss(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, metric) of a task's query set after the inner loop on its support set.

        Inputs (n, C, H, W) and (Q, C, H, W), labels (n,) and (Q,).
        """
        theta, alpha, steps = self.theta(), self.rates(), self.inner["steps"]
        path = inner_loop(self.outputs, theta, alpha, support_x, support_y, steps)  # eq. 4
        logits = [self.query_logits(w, support_x, query_x) for w in counted(path, self.inner)]
        return query_loss(logits, query_y)

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.over_test_tasks(self.inner_curve, support, query)

    def inner_curve(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        """One task's query logits after each inner step, (steps + 1, Q, K)."""
        theta, alpha, steps = self.theta(), self.rates(), self.inner["test_steps"]
        path = inner_loop(self.outputs, theta, alpha, support_x, support_y, steps)
        return torch.stack([self.query_logits(w, support_x, query_x) for w in path])
