"""LoRA: the network stays as it is; low-rank matrices beside the weights of its layers are trained,
and the head.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang & Chen, "LoRA: Low-Rank Adaptation of Large Language
Models", ICLR 2022. A convolution's weight counts as the matrix (filters, everything else).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones import _low_rank as low_rank
from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.phases import Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Lora(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0, and ``finetune``, which trains
    adapters and head.

    Args:
        finetune: lengths and optimiser.
        rank: of each adapter.
        alpha: an adapter's product counts alpha / rank times.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        finetune: Mapping[str, Any],
        rank: int,
        alpha: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.finetune = finetune
        self.base = [*self.encoder.parameters()]
        self.adapters = self.fresh("adapters", lambda: low_rank.adapt(self.encoder, rank, alpha))

    def phases(self) -> list[Phase]:
        parameters = [p for adapter in self.adapters for p in adapter.parameters()]
        groups = [Group([*self.head.parameters()]), Group(parameters)]
        update = self.classifier_update(self.finetune, self.step, groups)
        tuned = self.on_target(
            "finetune", self.finetune, update, eval_layers=[*self.encoder.modules()]
        )
        phases = self.after_pretraining(tuned)
        if phases[0].name == "pretrain":  # of the network itself
            phases[0].updates[0].groups = [Group([*self.base, *self.source_head.parameters()])]
        return phases

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images."""
        return {
            "cross_entropy": cross_entropy(
                self(batch.target.x), [batch.target], self.finetune["label_smoothing"]
            )
        }
