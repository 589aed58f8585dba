"""Source only: supervised training on the source, no adaptation.

The floor for every other method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import ConfigError
from tl_runner.methods._classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class SourceOnly(Classifier):
    """One phase, ``pretrain``: cross-entropy on source images, and on labelled target images if
    there are any.

    Args:
        pretrain: lengths and optimiser.
    """

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any]):
        super().__init__(setting)
        self.pretrain = pretrain

    def phases(self) -> list[Phase]:
        if not self.pretrain["epochs"]:
            raise ConfigError(
                [
                    "method.pretrain.epochs=0: this method begins with a trained source "
                    "classifier. Give it at least 1."
                ]
            )
        return [self.supervised("pretrain", self.pretrain, self.reads(source="source_train"))]
