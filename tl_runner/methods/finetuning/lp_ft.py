"""LP-FT: first a linear probe, then fine-tuning from its head, so that a random head does not
distort the features.

Kumar, Raghunathan, Jones, Ma & Liang, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, section 3.4.
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


class LpFt(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``probe``; ``finetune``.

    Args:
        pretrain, new_head: of the source's network.
        probe: lengths and optimiser.
        tuning: of :class:`Tuning`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        pretrain: Mapping[str, Any],
        new_head: bool | None,
        probe: Mapping[str, Any],
        **tuning: Any,
    ):
        super().__init__(setting, pretrain=pretrain, new_head=new_head)
        self.probe_options = probe
        self.tuning = Tuning(self, **tuning)

    def start(self) -> None:
        super().start()
        self.tuning.keep_start()

    def phases(self) -> list[Phase]:
        probe = self.probe("probe", self.probe_options)
        return self.after_pretraining(probe, *self.tuning.phases(self.step))

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images, and the regulariser's losses."""
        features = self.features(batch.target.x)
        logits, smoothing = self.head(features), self.tuning.options["label_smoothing"]
        return {
            "cross_entropy": cross_entropy(logits, [batch.target], smoothing),
            **self.tuning.penalties(features),
        }
