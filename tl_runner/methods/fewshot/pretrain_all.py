"""Plain pretraining on all tasks together, the baseline of the sinusoids: then as many gradient
steps as MAML takes.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.fewshot._base import task_loss, task_metric
from tl_runner.methods.fewshot.maml import MAML


class PretrainAll(MAML):
    """As :class:`MAML` with no inner step in training, which learns a task whole, support and query
    set alike.

    Where tasks number their classes at random there is nothing to learn so.

    Args:
        inner: ``test_steps`` and ``test_rate`` of scoring.
    """

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        if inner["test_rate"] is None:
            raise ConfigError(
                [
                    "method.inner.test_rate: there is no rate of training that it could be. Set "
                    "it to a number."
                ]
            )
        super().__init__(
            setting,
            inner={**inner, "steps": 0, "rate": inner["test_rate"], "every_step": False},
            **options,
        )

    def outcome(
        self, x: Tensor, y: Tensor, asked: Tensor, truth: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        said, y = self.outputs(self.start(), torch.cat([x, asked])), torch.cat([y, truth])
        return task_loss(said, y), task_metric(said.detach(), y)
