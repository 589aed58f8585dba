"""KLIEP: weigh the source's samples by an estimate of the ratio of the densities, target over
source.

Sugiyama, Nakajima, Kashima, von Buenau & Kawanabe, "Direct Importance Estimation with Model
Selection and Its Application to Covariate Shift Adaptation", NIPS 2007, figure 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import median_gamma, rbf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

STEPS, CENTRING = 100, 0.1
TOLERANCE = 1e-8  # of the mean log ratio: what it could still gain
FOLDS = 5
TINY = 1e-300  # of a density that is divided by
SEEN = 1e-12  # a kernel's mean from which on its centre has source samples near it


class KLIEP(OnFeatures):
    """Density ratios as mixtures: w(x) = sum_l a_l exp(-gamma |x - c_l|^2), c_l target samples.

    Args:
        centres: how many of them at most, the paper's 100.
        widths: what gamma may be, in units of 1 over the median squared distance; chosen by the
            likelihood of target samples left out.
    """

    weighted = True

    def __init__(self, setting: Setting, *, centres: int, widths: Sequence[float], **options: Any):
        super().__init__(setting, **options)
        self.centres, self.widths = centres, widths

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        source, target = domains.source, domains.target
        draw = torch.Generator().manual_seed(self.setting.seed)
        order = torch.randperm(len(target), generator=draw).to(target.device)
        centres, unit = target[order[: self.centres]], median_gamma(torch.cat([source, target]))
        best = self.widths[0]
        if len(self.widths) > 1:
            best = max(
                self.widths,
                key=lambda width: self.likelihood(source, target[order], centres, width * unit),
            )
        gamma = torch.as_tensor(best * unit, dtype=source.dtype)
        a = ratio(rbf(target, centres, gamma), rbf(source, centres, gamma).mean(0))
        return self.learn_weighted(domains, rbf(source, centres, gamma) @ a)

    def likelihood(self, source: Tensor, target: Tensor, centres: Tensor, gamma: float) -> float:
        """The mean log ratio of target samples that it was not fitted on, by cross-validation.

        Args:
            target: (M, d), in random order.
        """
        width = torch.as_tensor(gamma, dtype=source.dtype)
        of_target, of_source = rbf(target, centres, width), rbf(source, centres, width).mean(0)
        # a centre that no source sample is near would have any density ratio
        if float(of_source.min()) < SEEN:
            return -float("inf")
        folds = min(FOLDS, len(target))
        left_out = torch.arange(len(target), device=target.device) % folds
        scores = [
            (of_target[left_out == f] @ ratio(of_target[left_out != f], of_source))
            .clamp_min(TINY)
            .log()
            .mean()
            for f in range(folds)
        ]
        return float(torch.stack(scores).mean())


def ratio(of_target: Tensor, of_source: Tensor) -> Tensor:
    """The a (b,) >= 0 of the greatest mean of log(``of_target`` a) with a^T ``of_source`` = 1.

    The s_l = a_l of_source_l are shares of a mixture, and minimise sum(s) - mean log(mixture s)
    over s >= 0, where they sum to 1 by themselves: solved by Newton steps of a primal-dual interior
    point (Nocedal & Wright 2006, section 19.3), about ten. How much the likelihood could still gain
    is at most the largest derivative less 1.

    Args:
        of_target: the kernels at the target's samples, (M, b).
        of_source: their means over the source's, (b,).
    """
    mixture = of_target / of_source.clamp_min(TINY)
    # a factor of a row moves no maximum
    mixture = mixture / mixture.amax(1, keepdim=True).clamp_min(TINY)
    n, b = mixture.shape
    shares = torch.full_like(of_source, 1 / b)

    def derivatives() -> tuple[Tensor, Tensor]:
        relative = mixture / (mixture @ shares).clamp_min(TINY)[:, None]
        return relative, relative.mean(0)

    relative, first = derivatives()
    dual = (1 - first).clamp_min(0) + (first.max() - 1).clamp_min(1e-3)
    for _ in range(STEPS):
        if float(first.max() - 1) < TOLERANCE and abs(float(shares.sum()) - 1) < TOLERANCE:
            break
        barrier = CENTRING * (shares @ dual) / b
        curvature = relative.T @ relative / n + torch.diag(dual / shares)
        move = torch.cholesky_solve(
            (first - 1 + barrier / shares)[:, None], torch.linalg.cholesky(curvature)
        )[:, 0]
        dual_move = barrier / shares - dual - dual / shares * move
        shares = shares + inside(shares, move) * move
        dual = dual + inside(dual, dual_move) * dual_move
        relative, first = derivatives()
    return shares / shares.sum() / of_source.clamp_min(TINY)


def inside(x: Tensor, move: Tensor) -> Tensor:
    """The longest step, at most 1, that leaves every entry a hundredth of itself."""
    return (0.99 * torch.where(move < 0, -x / move, torch.inf).min()).clamp_max(1.0)
