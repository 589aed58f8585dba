"""PCA of both domains together: the learner sees their common principal components. A baseline of
the papers.

Long, Wang, Ding, Sun & Yu, "Transfer Feature Learning with Joint Distribution Adaptation", ICCV
2013, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting


class PCA(OnFeatures):
    """Common principal components of both domains.

    Args:
        dimensions: how many components, at most the features.
    """

    def __init__(self, setting: Setting, *, dimensions: int, **options: Any):
        super().__init__(setting, **options)
        self.dimensions = dimensions

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        both = torch.cat([domains.source, domains.target])
        k = self.at_most(self.dimensions, min(len(both) - 1, both.shape[1]), "dimensions")
        mean, directions = principal(both, k)
        maps = {"source_map": directions, "target_map": directions}
        return self.learn_aligned(domains, {**maps, "source_shift": mean, "target_shift": mean})
