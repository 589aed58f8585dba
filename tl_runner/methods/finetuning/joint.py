"""Joint training: a network trained on the source goes on with both tasks, each under a head of its
own. What LwF is held against.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, figure 2d: the upper bound for what need not
be forgotten, since it still has the old task's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.methods.base import Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.phases import Group, Phase


class Joint(ModelTransfer):
    """Phases: ``pretrain`` on the source, the old task; ``warm_up`` of the target's new head;
    ``finetune`` of everything on both.

    Args:
        warm_up, finetune: lengths and optimisers; 0 epochs of the first leave it out.
        weight: of the old task's loss.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        warm_up: Mapping[str, Any],
        finetune: Mapping[str, Any],
        weight: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.warm_up, self.finetune, self.weight = warm_up, finetune, weight

    def phases(self) -> list[Phase]:
        networks = [self.encoder, self.head, self.source_head]
        both = self.on_target(
            "finetune",
            self.finetune,
            self.both,
            [Group([p for n in networks for p in n.parameters()])],
        )
        both.updates[0].networks = networks
        both.reads = {"target": "target_labelled", "source": "source_train"}
        return self.after_pretraining(*self.warming_up(self.warm_up), both)

    def both(self, batch: Batch, progress: float) -> Losses:
        """The losses of batch.target and batch.source, each of its own head."""
        smoothing = self.finetune["label_smoothing"]
        new = cross_entropy(self.head(self.features(batch.target.x)), [batch.target], smoothing)
        old = cross_entropy(
            self.source_head(self.features(batch.source.x)), [batch.source], smoothing
        )
        return {"cross_entropy": new, "old_task": self.weight * old}
