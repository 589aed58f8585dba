"""Meta-SGD: MAML that also learns the inner rates, one for each weight.

Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017, algorithm 1,
eq. 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.fewshot.maml import MAML


class MetaSGD(MAML):
    """As :class:`MAML`; ``inner.rate`` is what all rates start from, and ``inner.test_rate`` null.

    Args:
        inner: as MAML's.
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
        every = {name: torch.full_like(w, inner["rate"]) for name, w in self.start().items()}
        self.alpha = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(rate) for name, rate in every.items()}
        )

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.alpha]

    def rates(self, test: bool) -> Mapping[str, Tensor | float]:
        return {name: self.alpha[name.replace(".", "/")] for name in self.start()}
