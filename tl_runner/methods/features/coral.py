"""CORAL, closed form: whiten the source's features and colour them as the target's are.

Sun, Feng & Saenko, "Return of Frustratingly Easy Domain Adaptation", AAAI 2016, algorithm 1. It
moves no means: ``scale=each`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Aligned, Domains


class CORAL(Aligned):
    """
    Args:
        ridge: added to the diagonal of both covariances (over n - 1); 1 in the paper, whose
            features have a deviation of 1. In units of the features squared.
    """

    def __init__(self, setting: Setting, *, ridge: float, **options: Any):
        super().__init__(setting, **options)
        self.ridge = ridge

    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        source, target = (self.covariance(x) for x in (domains.source, domains.target))
        identity = torch.eye(len(source), dtype=source.dtype, device=source.device)
        return {"source_map": power(source, -0.5) @ power(target, 0.5), "target_map": identity}

    def covariance(self, x: Tensor) -> Tensor:
        """Of features (N, d), with the ridge."""
        centred = x - x.mean(0)
        found = centred.T @ centred / max(1, len(x) - 1)
        return found + self.ridge * torch.eye(len(found), dtype=x.dtype, device=x.device)


def power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(torch.finfo(matrix.dtype).tiny) ** exponent) @ vectors.T
