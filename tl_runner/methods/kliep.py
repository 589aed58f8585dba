"""KLIEP: weigh the source's samples by an estimate of the ratio of the densities, target over source.

Sugiyama, Nakajima, Kashima, von Buenau & Kawanabe, "Direct Importance Estimation with Model Selection and Its Application to Covariate
Shift Adaptation", NIPS 2007, figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.kernels import median_gamma, rbf
from tl_runner.methods.on_features import Domains, Weighted

STEPS, EVERY, TOLERANCE = 2000, 20, 1e-8  # of the mean log ratio, what so many steps should still gain
FOLDS = 5
TINY = 1e-300  # of a density


class KLIEP(Weighted):
    """w(x) = sum_l a_l exp(-gamma |x - c_l|^2), the centres c_l samples of the target.

    Args:
        centres: how many of them at most, the paper's 100.
        widths: what gamma may be, in units of 1 over the median squared distance; chosen by the likelihood of target samples left out.
    """

    def __init__(self, setting: Setting, *, centres: int, widths: Sequence[float], **options: Any):
        super().__init__(setting, **options)
        self.centres, self.widths = centres, widths

    def weights(self, domains: Domains) -> Tensor:
        source, target = domains.source, domains.target
        draw = torch.Generator().manual_seed(self.setting.seed)
        order = torch.randperm(len(target), generator=draw).to(target.device)
        centres, unit = target[order[: self.centres]], median_gamma(torch.cat([source, target]))
        best = self.widths[0]
        if len(self.widths) > 1:
            best = max(self.widths, key=lambda width: self.likelihood(source, target[order], centres, width * unit))
        gamma = torch.as_tensor(best * unit, dtype=source.dtype)
        return rbf(source, centres, gamma) @ ratio(rbf(target, centres, gamma), rbf(source, centres, gamma).mean(0))

    def likelihood(self, source: Tensor, target: Tensor, centres: Tensor, gamma: float) -> float:
        """The mean log ratio of target samples, (M, d) in random order, that the ratio was not fitted on."""
        width = torch.as_tensor(gamma, dtype=source.dtype)
        of_target, of_source = rbf(target, centres, width), rbf(source, centres, width).mean(0)
        folds = min(FOLDS, len(target))
        left_out = torch.arange(len(target), device=target.device) % folds
        said = [(of_target[left_out == f] @ ratio(of_target[left_out != f], of_source)).clamp_min(TINY).log().mean() for f in range(folds)]
        return float(torch.stack(said).mean())


def ratio(of_target: Tensor, of_source: Tensor) -> Tensor:
    """The a (b,) >= 0 with sum_l a_l ``of_source``_l = 1 that has the greatest sum of log(``of_target`` a), values (M, b) and means (b,).

    The a_l of_source_l are shares of a mixture, so expectation maximisation climbs to the one maximum without a step size.
    """
    mixture = of_target / of_source.clamp_min(TINY)  # (M, b)
    shares = torch.full_like(of_source, 1 / len(of_source))
    before = -torch.inf
    for step in range(STEPS):
        said = (mixture @ shares).clamp_min(TINY)
        if step % EVERY == 0:
            now = float(said.log().mean())
            if now - before < TOLERANCE:
                break
            before = now
        shares = shares * (mixture.T @ (1 / said)) / len(mixture)
        shares = shares / shares.sum()
    return shares / of_source.clamp_min(TINY)
