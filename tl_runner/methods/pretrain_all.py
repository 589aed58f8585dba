"""Plain pretraining on all tasks together, the baseline of the sinusoids: then as many gradient steps as MAML takes.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.maml import MAML


class PretrainAll(MAML):
    """As :class:`MAML` with no inner step in training. Where tasks number their classes at random there is nothing to learn so.

    Args:
        inner: ``test_steps`` and ``test_rate`` of scoring.
    """

    def __init__(self, setting: Setting, *, inner: Mapping[str, Any], **options: Any):
        if inner["test_rate"] is None:
            raise ConfigError(["method.inner.test_rate: there is no rate of training that it could be. Set it to a number."])
        super().__init__(setting, inner={**inner, "steps": 0, "rate": inner["test_rate"]}, **options)
