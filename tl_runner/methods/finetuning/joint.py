"""Joint training: a network trained on the source goes on with both tasks, each under a head of its
own. What LwF is held against.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, figure 2d: the upper bound for what need not
be forgotten, since it still has the old task's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


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
        both = self.on_target(
            "finetune",
            self.finetune,
            self.joint_update(self.finetune, self.both),
            reads={"target": "target_labelled", "source": "source_train"},
        )
        return self.after_pretraining(*self.warming_up(self.warm_up), both)

    def both(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropies of batch.target and batch.source, each under its own head."""
        smoothing = self.finetune["label_smoothing"]
        new = cross_entropy(self.head(self.features(batch.target.x)), [batch.target], smoothing)
        old = cross_entropy(
            self.source_head(self.features(batch.source.x)), [batch.source], smoothing
        )
        return {"cross_entropy": new, "old_task": self.weight * old}
