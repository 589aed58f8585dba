"""No transfer: the learner on features as they are. The floor of the methods on features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Domains, OnFeatures


class NoTransfer(OnFeatures):
    """
    Args:
        learn_from: ``both``, the source's samples and those of the target that have a label, all
            alike; ``source``; ``target``, the labelled ones alone.
    """

    def __init__(self, setting: Setting, *, learn_from: str, **options: Any):
        super().__init__(setting, **options)
        self.learn_from = learn_from
        if learn_from == "target" and not setting.labelled and not setting.deployed:
            raise ConfigError(
                [
                    "method.learn_from=target needs labels of the target: set data.target_labels "
                    "to a number a class, or to all."
                ]
            )

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        samples = [(domains.source, domains.y)] if self.learn_from != "target" else []
        if (
            domains.labelled is not None
            and domains.labelled_y is not None
            and self.learn_from != "source"
        ):
            samples.append((domains.labelled, domains.labelled_y))
        x, y = (torch.cat(parts) for parts in zip(*samples, strict=True))
        return self.learned(x, y)
