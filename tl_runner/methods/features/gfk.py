"""Geodesic flow kernel: the inner product over all subspaces on the way from the source's to the
target's.

Gong, Shi, Sha & Grauman, "Geodesic Flow Kernel for Unsupervised Domain Adaptation", CVPR 2012, eq.
4-6, with PCA for both domains.
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

SMALL = 1e-7  # an angle, in radians, below which two directions are the same


class GFK(OnFeatures):
    """Geodesic flow kernel: the learner sees features whose inner product is x^T G y.

    ``1nn`` so has the distances by G. The means stay where they are unless ``scale=each`` takes
    them off.

    Args:
        dimensions: of either subspace, at most half of the features.
    """

    def __init__(self, setting: Setting, *, dimensions: int, **options: Any):
        super().__init__(setting, **options)
        self.dimensions = dimensions

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        n, m, width = len(domains.source), len(domains.target), domains.source.shape[1]
        k = self.at_most(self.dimensions, max(1, min(n - 1, m - 1, width // 2)), "dimensions")
        root = flow(*(principal(x, k)[1] for x in (domains.source, domains.target)))
        return self.learn_aligned(domains, {"source_map": root, "target_map": root})


def flow(source: Tensor, target: Tensor) -> Tensor:
    """A root (d, 2k) of G = integral of Phi(t) Phi(t)^T over t in [0, 1]: root @ root^T = G.

    Args:
        source, target: orthonormal bases, (d, k) each.
    """
    u, cosines, vh = torch.linalg.svd(source.T @ target)
    begin, v = source @ u, vh.T
    cosines = cosines.clamp(max=1.0)
    # of the target's directions, what is orthogonal to the source's
    beside = target @ v - begin * cosines
    sines = beside.norm(dim=0)
    angles = torch.atan2(sines, cosines)
    apart = angles > SMALL
    beside = torch.where(apart, beside / torch.where(apart, sines, 1.0), 0.0)
    # Phi(t) = begin cos(t a) + beside sin(t a): the integrals of cos^2, cos sin and sin^2, half of
    # the paper's Lambdas
    safe = torch.where(apart, angles, 1.0)
    even, odd = torch.sin(2 * safe) / (4 * safe), (1 - torch.cos(2 * safe)) / (4 * safe)
    rows = [torch.stack([0.5 + even, odd]), torch.stack([odd, 0.5 - even])]
    blocks = torch.stack(rows).permute(2, 0, 1)  # (k, 2, 2)
    same = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=blocks.dtype, device=blocks.device)
    values, vectors = torch.linalg.eigh(torch.where(apart[:, None, None], blocks, same))
    roots = vectors * values.clamp_min(0).sqrt()[:, None, :]  # (k, 2, 2)
    parts = torch.stack([begin, beside], dim=2)  # (d, k, 2)
    return torch.einsum("dki,kij->dkj", parts, roots).flatten(1)
