"""Linear probe (feature extraction): a linear classifier of the target on features of a network
that stays as it is.

Kumar, Raghunathan, Jones, Ma & Liang, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, section 2, among many before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._feature_selection import FeatureSelection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


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
        self.probe_options = probe
        self.select = FeatureSelection(select, keep, setting.seed) if select else None

    def phases(self) -> list[Phase]:
        return self.after_pretraining(self.probe("probe", self.probe_options, self.select))

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return self.select.findings(self.head) if self.select else {}
