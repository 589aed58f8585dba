"""TCA: components in which the domains' means meet and the variance stays.

Pan, Tsang, Kwok & Yang, "Domain Adaptation via Transfer Component Analysis", IEEE Transactions on
Neural Networks 2011, eq. 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import ComponentSpace, means_apart, transfer_components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting


class TCA(OnFeatures):
    """Transfer component analysis: L is that of the MMD between the domains.

    Its entries are 1/N^2, 1/M^2 and -1/(NM).

    Args:
        dimensions: components.
        mu: weight of |W|^2.
        kernel, gamma, landmarks, unit: those of :class:`ComponentSpace`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        dimensions: int,
        mu: float,
        kernel: str,
        gamma: float | None,
        landmarks: int | None,
        unit: bool,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.dimensions, self.mu = dimensions, mu
        self.space = ComponentSpace(kernel, gamma, landmarks, unit, setting.seed)

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        x, kernel = self.space.design(domains)
        k = self.at_most(self.dimensions, min(len(x) - 1, x.shape[1]), "dimensions")
        source = torch.arange(len(x), device=x.device) < len(domains.source)
        w = transfer_components(x, means_apart(source, ~source), self.mu, k)
        return self.learn_aligned(domains, {"source_map": w, "target_map": w, **kernel})

    def project(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        return self.space.project(maps, z, domain)
