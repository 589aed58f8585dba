"""DAN: deep adaptation network. Features and logits of the two domains are drawn together by a
multi-kernel MMD.

Long, Cao, Wang & Jordan, "Learning Transferable Features with Deep Adaptation Networks", ICML 2015:
cross-entropy plus a constant weight times the sum of the layers' squared MMDs. As in the authors'
code the kernels weigh the same (the paper solves a quadratic program for them), and the
source-trained network stands where they begin from ImageNet's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import one_of
from tl_runner.losses.mmd import ESTIMATORS, median_bandwidths, mmd
from tl_runner.methods.adaptation._base import LAYERS, SharedEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class Dan(SharedEncoder):
    """Two phases: ``pretrain`` and ``adapt``.

    Args:
        weight: of the MMD, constant.
        layers: whose MMDs are added up: ``features``, ``logits``.
        kernels, kernel_ratio: how many Gaussians, and the ratio of neighbouring bandwidths; the
            middle one is the median squared distance. The paper's family is 33 kernels of ratio
            sqrt(2).
        estimator: ``unbiased`` (every pair of samples) or ``linear`` (disjoint quadruples, the
            paper's).
    """

    couples = True

    def __init__(
        self,
        setting: Setting,
        *,
        weight: float,
        layers: Sequence[str],
        kernels: int,
        kernel_ratio: float,
        estimator: str,
        **phases: Any,
    ):
        super().__init__(setting, **phases)
        one_of("method.estimator", estimator, ESTIMATORS)
        for layer in layers:
            one_of("method.layers", layer, LAYERS)
        self.weight, self.layers, self.estimator = weight, layers, estimator
        self.kernels, self.kernel_ratio = kernels, kernel_ratio

    def step(self, batch: Batch, progress: float) -> Losses:
        """Classification loss and the weighted sum of the layers' MMDs (eq. 4)."""
        at = self.activations(batch)
        distances = [self.distance(at.source[layer], at.target[layer]) for layer in self.layers]
        return {
            "cross_entropy": at.cross_entropy,
            "mmd": self.weight * torch.stack(distances).sum(),
        }

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        """Squared MMD of one layer, (B_s, d) and (B_t, d)."""
        bandwidths = median_bandwidths(source, target, self.kernels, self.kernel_ratio)
        return mmd([source], [target], [bandwidths], self.estimator)
