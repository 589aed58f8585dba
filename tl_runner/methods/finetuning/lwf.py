"""LwF: learning without forgetting. A new task is learned while the answers to the old one are
kept, without the old task's data.

Li & Hoiem, "Learning without Forgetting", ECCV 2016 (TPAMI 2018), section 3 and figure 3: first the
new head alone (warm-up), then all together, with the original network's answers to the very images
that the network sees as targets of the old head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.losses.distillation import softened_cross_entropy
from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Lwf(ModelTransfer):
    """Phases: ``pretrain`` on the source, the old task; ``warm_up`` of the target's new head;
    ``finetune`` of everything.

    Args:
        warm_up, finetune: lengths and optimisers; 0 epochs of the first leave it out.
        weight: lambda_o, of the old answers.
        temperature: T of the old answers; the paper's is 2, without a factor T^2.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        warm_up: Mapping[str, Any],
        finetune: Mapping[str, Any],
        weight: float,
        temperature: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.warm_up, self.finetune = warm_up, finetune
        self.weight, self.temperature = weight, temperature
        self.origin = self.fresh("backbone", setting.make_backbone)
        self.origin_head = self.fresh(
            "head",
            lambda: torch.nn.Linear(self.encoder.out_features, self.source_head.out_features),
        )

    def start(self) -> None:
        super().start()
        self.origin.load_state_dict(self.encoder.state_dict())
        self.origin_head.load_state_dict(self.source_head.state_dict())

    def phases(self) -> list[Phase]:
        update = self.joint_update(self.finetune, self.joint)
        joint = self.on_target("finetune", self.finetune, update)
        return self.after_pretraining(*self.warming_up(self.warm_up), joint)

    def joint(self, batch: Batch, progress: float) -> Losses:
        """Losses of the new task, and of the old head against the original network's logits for the
        same images."""
        with torch.no_grad():
            recorded = self.origin_head(self.origin(batch.target.x))
        features = self.features(batch.target.x)
        new = cross_entropy(self.head(features), [batch.target], self.finetune["label_smoothing"])
        old = softened_cross_entropy(self.source_head(features), recorded, self.temperature)
        return {"cross_entropy": new, "old_answers": self.weight * old}
