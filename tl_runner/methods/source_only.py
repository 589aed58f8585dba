"""Source only: supervised training on the source, no adaptation. The floor for every other method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.methods.base import Classifier, Phase


class SourceOnly(Classifier):
    """One phase, ``pretrain``: cross-entropy on labelled source images.

    Args:
        pretrain: lengths and optimiser.
    """

    def __init__(self, *built: Any, pretrain: Mapping[str, Any]):
        super().__init__(*built)
        self.pretrain = pretrain

    def phases(self) -> list[Phase]:
        return [self.supervised("pretrain", self.pretrain, "source", "source_train")]
