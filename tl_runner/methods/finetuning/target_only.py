"""Target only: supervised training on the target's own labels.

The ceiling of adaptation (an oracle), the floor of model transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods._classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class TargetOnly(Classifier):
    """One phase, ``supervise``: cross-entropy on the labelled target images.

    Args:
        supervise: lengths and optimiser.
    """

    other_classes = True  # the source is not read

    def __init__(self, setting: Setting, *, supervise: Mapping[str, Any]):
        super().__init__(setting)
        self.supervise = supervise

    def phases(self) -> list[Phase]:
        supervise = self.supervised("supervise", self.supervise, {"target": "target_labelled"})
        if self.setting.source_classes is not None:
            supervise.outputs.domains = ["target"]
        return [supervise]
