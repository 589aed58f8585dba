"""Target only: supervised training on the target's own labels. An oracle: the ceiling for adaptation methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.methods.base import Classifier, Phase, Setting


class TargetOnly(Classifier):
    """One phase, ``supervise``: cross-entropy on the labelled target images.

    Args:
        supervise: lengths and optimiser.
    """

    def __init__(self, setting: Setting, *, supervise: Mapping[str, Any]):
        super().__init__(setting)
        self.supervise = supervise

    def phases(self) -> list[Phase]:
        return [self.supervised("supervise", self.supervise, {"target": "target_labelled"})]
