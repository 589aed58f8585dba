"""The source's model and a copy fine-tuned on the target answer together: the mean of their
probabilities.

Lakshminarayanan, Pritzel & Blundell, "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles", NeurIPS 2017, section 2.4, of two different models; output-space ensembles in
Wortsman et al., "Robust Fine-Tuning", CVPR 2022, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from tl_runner.errors import ConfigError
from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Ensemble(ModelTransfer):
    """Phases: those of fine-tuning; the tuned network predicts together with the one that
    ``pretrain`` left.

    Args:
        pretrain, new_head: of the source's network.
        mix: the share of the fine-tuned model's probabilities.
        tuning: of :class:`Tuning`.

    Raises:
        ConfigError: the two would answer about different classes.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        pretrain: Mapping[str, Any],
        new_head: bool | None,
        mix: float,
        **tuning: Any,
    ):
        super().__init__(setting, pretrain=pretrain, new_head=new_head)
        self.tuning = Tuning(self, **tuning)
        if setting.source_classes is not None:
            raise ConfigError(
                [
                    "method=ensemble needs the same classes in source and target: two models are "
                    "to answer one question."
                ]
            )
        self.mix = mix
        self.source_encoder = self.fresh("backbone", setting.make_backbone)
        self.old_head = self.fresh(
            "head", lambda: nn.Linear(self.head.in_features, self.head.out_features)
        )

    def start(self) -> None:
        super().start()
        self.tuning.keep_start()
        self.source_encoder.load_state_dict(self.encoder.state_dict())
        self.old_head.load_state_dict(self.source_head.state_dict())

    def phases(self) -> list[Phase]:
        tuned = self.tuning.phases(self.step)
        for phase in tuned:
            phase.outputs.predict = phase.outputs.source_predict = self.together
        return self.after_pretraining(*tuned)

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images, and the regulariser's losses."""
        features = self.features(batch.target.x)
        logits, smoothing = self.head(features), self.tuning.options["label_smoothing"]
        return {
            "cross_entropy": cross_entropy(logits, [batch.target], smoothing),
            **self.tuning.penalties(features),
        }

    def together(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to log probabilities (B, K) of the mixture."""
        old, new = self.old_head(self.source_encoder(x)).softmax(1), self(x).softmax(1)
        return old.lerp(new, self.mix).clamp(min=1e-12).log()
