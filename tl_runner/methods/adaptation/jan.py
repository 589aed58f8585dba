"""JAN: joint adaptation network. Features and predictions of the two domains are drawn together
jointly, by one MMD.

Long, Zhu, Wang & Jordan, "Deep Transfer Learning with Joint Adaptation Networks", ICML 2017,
section 4: the kernel is the product of the layers' kernels, so that the joint distribution of
features and predictions is compared, not each by itself. The weight rises as 2 / (1 + exp(-10 p)) -
1, as in the authors' code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import one_of
from tl_runner.losses.adversarial import adaptation_factor
from tl_runner.losses.mmd import ESTIMATORS, median_bandwidths, mmd
from tl_runner.losses.precision import full_precision
from tl_runner.methods.adaptation._base import SharedEncoder

if TYPE_CHECKING:
    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class Jan(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the joint MMD at the end of the phase; it rises from 0.
        kernels, kernel_ratio: of each layer, as DAN's.
        estimator: ``unbiased`` or ``linear``.
    """

    couples = True

    def __init__(
        self,
        setting: Setting,
        *,
        weight: float,
        kernels: int,
        kernel_ratio: float,
        estimator: str,
        **phases: Any,
    ):
        super().__init__(setting, **phases)
        one_of("method.estimator", estimator, ESTIMATORS)
        self.weight, self.estimator = weight, estimator
        self.kernels, self.kernel_ratio = kernels, kernel_ratio

    def step(self, batch: Batch, progress: float) -> Losses:
        """Classification loss and the weighted JMMD of features (B, d) and probabilities (B, K)."""
        at = self.activations(batch)
        source, target = (
            [layers["features"], full_precision(layers["logits"]).softmax(1)]
            for layers in (at.source, at.target)
        )
        bandwidths = [
            median_bandwidths(s, t, self.kernels, self.kernel_ratio)
            for s, t in zip(source, target, strict=True)
        ]
        weight = self.weight * adaptation_factor(progress)
        return {
            "cross_entropy": at.cross_entropy,
            "joint_mmd": weight * mmd(source, target, bandwidths, self.estimator),
        }
