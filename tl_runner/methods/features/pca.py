"""PCA of both domains together: the learner sees their common principal components. A baseline of
the papers.

Long, Wang, Ding, Sun & Yu, "Transfer Feature Learning with Joint Distribution Adaptation", ICCV
2013, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Aligned, Domains, principal


class PCA(Aligned):
    """
    Args:
        dimensions: how many components, at most the features.
    """

    def __init__(self, setting: Setting, *, dimensions: int, **options: Any):
        super().__init__(setting, **options)
        self.dimensions = dimensions

    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        both = torch.cat([domains.source, domains.target])
        mean, directions = principal(
            both, self.at_most(self.dimensions, min(len(both) - 1, both.shape[1]), "dimensions")
        )
        return {
            "source_map": directions,
            "target_map": directions,
            "source_shift": mean,
            "target_shift": mean,
        }
