"""Linear probe (feature extraction): a linear classifier of the target on features of a network
that stays as it is.

Kumar, Raghunathan, Jones, Ma & Liang, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, section 2, among many before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.phases import Phase
from tl_runner.metrics.features import chosen


class LinearProbe(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0, and ``probe``, which trains the
    head alone on features computed once.

    Args:
        probe: lengths and optimiser.
        select: null, or how the features that the head sees are chosen: ``l1``,
            ``mutual_information``.
        keep: the share of the features that is chosen.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        probe: Mapping[str, Any],
        select: str | None,
        keep: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.probe_options, self.method, self.keep = probe, select, keep

    def phases(self) -> list[Phase]:
        return self.after_pretraining(self.probing())

    def probing(self) -> Phase:
        """The phase ``probe``."""
        return self.probe("probe", self.probe_options, self.select if self.method else None)

    def select(self, features: Tensor, labels: Tensor) -> Tensor:
        """Which of the features (N, d) the head is to see for these labels (N,): bool (d,).

        Raises:
            ConfigError: the labels are too few for the estimate.
        """
        assert self.method
        if self.method == "mutual_information" and labels.bincount().max() < 2:
            raise ConfigError(
                [
                    "method.select=mutual_information needs two labelled images of a class: raise "
                    "data.target_labels, or take l1."
                ]
            )
        number = max(1, round(self.keep * features.shape[1]))
        seed = randomness.derive(self.setting.seed, "select") % 2**32
        found = chosen(self.method, features.cpu().numpy(), labels.cpu().numpy(), number, seed)
        return torch.from_numpy(found).to(features.device)

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        seen = (self.head.weight != 0).any(0)
        return (
            {"features": {"of": len(seen), "seen": seen.nonzero().squeeze(1).tolist()}}
            if self.method
            else {}
        )
