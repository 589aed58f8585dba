"""Subspace alignment: turn the source's principal directions onto the target's.

Fernando, Habrard, Sebban & Tuytelaars, "Unsupervised Visual Domain Adaptation Using Subspace
Alignment", ICCV 2013, algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting


class SubspaceAlignment(OnFeatures):
    """Subspace alignment: both domains on the target's principal directions.

    The means stay where they are unless ``scale=each`` takes them off, as the authors' code
    does.

    Args:
        dimensions: d of the paper, of either subspace.
    """

    def __init__(self, setting: Setting, *, dimensions: int, **options: Any):
        super().__init__(setting, **options)
        self.dimensions = dimensions

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        n, m, width = len(domains.source), len(domains.target), domains.source.shape[1]
        k = self.at_most(self.dimensions, min(n - 1, m - 1, width), "dimensions")
        source, target = (principal(x, k)[1] for x in (domains.source, domains.target))
        aligned = source @ (source.T @ target)  # X_S M, M = X_S^T X_T (eq. 2)
        return self.learn_aligned(domains, {"source_map": aligned, "target_map": target})
