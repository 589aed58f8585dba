"""CORAL, closed form: whiten the source's features and colour them as the target's are.

Sun, Feng & Saenko, "Return of Frustratingly Easy Domain Adaptation", AAAI 2016, algorithm 1. It
moves no means: ``scale=each`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting


class CORAL(OnFeatures):
    """Correlation alignment in closed form: the source's features get the target's covariance.

    Args:
        ridge: added to the diagonal of both covariances (over n - 1); 1 in the paper, whose
            features have a deviation of 1. In units of the features squared.
    """

    def __init__(self, setting: Setting, *, ridge: float, **options: Any):
        super().__init__(setting, **options)
        self.ridge = ridge

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        recolour = recolouring(domains.source, domains.target, self.ridge)
        identity = torch.eye(len(recolour), dtype=recolour.dtype, device=recolour.device)
        return self.learn_aligned(domains, {"source_map": recolour, "target_map": identity})


def recolouring(source: Tensor, target: Tensor, ridge: float) -> Tensor:
    """C_S^(-1/2) C_T^(1/2), (d, d), with the covariances of features (N, d) and (M, d)."""
    return power(covariance(source, ridge), -0.5) @ power(covariance(target, ridge), 0.5)


def covariance(x: Tensor, ridge: float) -> Tensor:
    """The covariance (d, d) of features (N, d), plus ``ridge`` on its diagonal."""
    centred = x - x.mean(0)
    found = centred.T @ centred / max(1, len(x) - 1)
    return found + ridge * torch.eye(len(found), dtype=x.dtype, device=x.device)


def power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(torch.finfo(matrix.dtype).tiny) ** exponent) @ vectors.T
