"""The source's model and a copy fine-tuned on the target answer together: the mean of their
probabilities.

Lakshminarayanan, Pritzel & Blundell, "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles", NeurIPS 2017, section 2.4, of two different models; output-space ensembles in
Wortsman et al., "Robust Fine-Tuning", CVPR 2022, section 4.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.finetuning.finetune import FineTune
from tl_runner.methods.phases import Phase


class Ensemble(FineTune):
    """Phases: those of fine-tuning; what they make predicts together with the network that
    ``pretrain`` left.

    Args:
        mix: the share of the fine-tuned model's probabilities.

    Raises:
        ConfigError: the two would answer about different classes.
    """

    def __init__(self, setting: Setting, *, mix: float, **options: Any):
        super().__init__(setting, **options)
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
        self.source_encoder.load_state_dict(self.encoder.state_dict())
        self.old_head.load_state_dict(self.source_head.state_dict())

    def tuned(self) -> list[Phase]:
        phases = super().tuned()
        for phase in phases:
            phase.outputs.predict = phase.outputs.source_predict = self.together
        return phases

    def together(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to log probabilities (B, K) of the mixture."""
        old, new = self.old_head(self.source_encoder(x)).softmax(1), self(x).softmax(1)
        return old.lerp(new, self.mix).clamp(min=1e-12).log()
