"""Subspace alignment: turn the source's principal directions onto the target's.

Fernando, Habrard, Sebban & Tuytelaars, "Unsupervised Visual Domain Adaptation Using Subspace
Alignment", ICCV 2013, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Aligned, Domains, principal


class SubspaceAlignment(Aligned):
    """The means stay where they are unless ``scale=each`` takes them off, as the authors' code
    does.

    Args:
        dimensions: d of the paper, of either subspace.
    """

    def __init__(self, setting: Setting, *, dimensions: int, **options: Any):
        super().__init__(setting, **options)
        self.dimensions = dimensions

    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        n, m, width = len(domains.source), len(domains.target), domains.source.shape[1]
        k = self.at_most(self.dimensions, min(n - 1, m - 1, width), "dimensions")
        source, target = (principal(x, k)[1] for x in (domains.source, domains.target))
        # X_S M, M = X_S^T X_T (eq. 2)
        return {"source_map": source @ (source.T @ target), "target_map": target}
