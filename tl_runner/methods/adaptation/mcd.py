"""MCD: maximum classifier discrepancy. Two heads look for target samples that they disagree on, the
encoder removes them.

Saito, Watanabe, Ushiku & Harada, "Maximum Classifier Discrepancy for Unsupervised Domain
Adaptation", CVPR 2018, section 3.3, steps A, B, C: classify the source; heads alone: classify the
source and disagree on the target; encoder alone, n times: agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.losses.discrepancy import classifier_discrepancy
from tl_runner.methods.adaptation._base import SharedEncoder, mlp
from tl_runner.methods.phases import Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class Mcd(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``, which starts with two new heads; the prediction is
    the mean of their logits (the paper's sum has the same maximum, but not its certainty).

    Args:
        hidden: units of each head's two hidden layers.
        agree_steps: n, how often step C is taken in a step.
    """

    def __init__(self, setting: Setting, *, hidden: int, agree_steps: int, **phases: Any):
        super().__init__(setting, **phases)
        self.agree_steps = agree_steps
        widths = (self.encoder.out_features, hidden, hidden, setting.num_classes)
        self.head_a, self.head_b = (
            self.fresh(name, lambda: mlp(*widths)) for name in ("head_a", "head_b")
        )

    def updates(self) -> list[Update]:
        optimizer, heads = self.adapt["optimizer"], [self.head_a, self.head_b]
        return [
            Update("A", [self.encoder, *heads], optimizer, self.step),
            Update("B", heads, optimizer, self.disagree),
            Update("C", [self.encoder], optimizer, self.agree, repeats=self.agree_steps),
        ]

    def classify(self, features: Tensor) -> Tensor:
        return (self.head_a(features) + self.head_b(features)) / 2

    def step(self, batch: Batch, progress: float) -> Losses:
        """Step A: the heads' classification loss of the source."""
        features = self.encode(batch, "source", "labelled")
        return {"cross_entropy": self.classification_loss(features, batch)}

    def disagree(self, batch: Batch, progress: float) -> Losses:
        """Step B: step A's loss minus the heads' discrepancy on the target."""
        features = self.encode(batch, "source", "target", "labelled")
        return {
            "heads_cross_entropy": self.classification_loss(features, batch),
            "disagreement": -self.discrepancy(features["target"]),
        }

    def agree(self, batch: Batch, progress: float) -> Losses:
        """Step C: the heads' discrepancy on the target."""
        return {"discrepancy": self.discrepancy(self.encode(batch, "target")["target"])}

    def classification_loss(self, features: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Sum of the two heads' cross-entropies, of labelled target images too if there are any."""
        logits = [
            {d: head(f) for d, f in features.items() if d != "target"}
            for head in (self.head_a, self.head_b)
        ]
        return self.cross_entropy(logits[0], batch) + self.cross_entropy(logits[1], batch)

    def discrepancy(self, features: Tensor) -> Tensor:
        """Discrepancy of the two heads on features (B, d)."""
        return classifier_discrepancy(self.head_a(features), self.head_b(features))
