"""Linear probe (feature extraction): a linear classifier of the target on features of a network that stays as it is.

Kumar, Raghunathan, Jones, Ma & Liang, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022,
section 2, among many before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.methods.base import Phase, Setting
from tl_runner.methods.model_transfer import ModelTransfer


class LinearProbe(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0, and ``probe``, which trains the head alone on features computed once.

    Args:
        probe: lengths and optimiser.
    """

    def __init__(self, setting: Setting, *, probe: Mapping[str, Any], **transfer: Any):
        super().__init__(setting, **transfer)
        self.probe_options = probe

    def phases(self) -> list[Phase]:
        return self.after_pretraining(self.probe("probe", self.probe_options))
