"""LP-FT: first a linear probe, then fine-tuning from its head, so that a random head does not
distort the features.

Kumar, Raghunathan, Jones, Ma & Liang, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.methods.base import Setting
from tl_runner.methods.finetuning.finetune import FineTune
from tl_runner.methods.phases import Phase


class LpFt(FineTune):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``probe``; ``finetune`` as
    fine-tuning does it.

    Args:
        probe: lengths and optimiser.
    """

    def __init__(self, setting: Setting, *, probe: Mapping[str, Any], **options: Any):
        super().__init__(setting, **options)
        self.probe_options = probe

    def phases(self) -> list[Phase]:
        return self.after_pretraining(self.probe("probe", self.probe_options), *self.tuned())
