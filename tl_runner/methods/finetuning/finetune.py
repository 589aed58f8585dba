"""Fine-tuning: a network trained on the source goes on with the target's labels, all of it or the
layers that are not frozen.

Regularisers, rates by layer and gradual unfreezing are in :mod:`._tuning`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class FineTune(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0, and ``finetune`` on the labelled
    target images.

    Args:
        pretrain, new_head: of the source's network.
        tuning: of :class:`Tuning`.
    """

    def __init__(
        self, setting: Setting, *, pretrain: Mapping[str, Any], new_head: bool | None, **tuning: Any
    ):
        super().__init__(setting, pretrain=pretrain, new_head=new_head)
        self.tuning = Tuning(self, **tuning)

    def start(self) -> None:
        super().start()
        self.tuning.keep_start()

    def phases(self) -> list[Phase]:
        return self.after_pretraining(*self.tuning.phases(self.step))

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images, and the regulariser's losses."""
        features = self.features(batch.target.x)
        logits, smoothing = self.head(features), self.tuning.options["label_smoothing"]
        return {
            "cross_entropy": cross_entropy(logits, [batch.target], smoothing),
            **self.tuning.penalties(features),
        }
