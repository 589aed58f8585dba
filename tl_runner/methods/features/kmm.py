"""Kernel mean matching: weigh the source's samples so that their mean in a kernel's space is the
target's.

Huang, Smola, Gretton, Borgwardt & Schoelkopf, "Correcting Sample Selection Bias by Unlabeled Data",
NIPS 2006, eq. 5-6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import median_gamma, rbf, refuse_beyond

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

STEPS, TOLERANCE = 5000, 1e-7


class KMM(OnFeatures):
    """Kernel mean matching: a quadratic program over the weights of the source's samples.

    Args:
        bound: B, the most that a sample may weigh.
        slack: epsilon, how far the mean weight may be from 1; None: (sqrt(N) - 1) / sqrt(N), the
            paper's.
        gamma: of exp(-gamma |x - y|^2); None: 1 over the median squared distance.
    """

    weighted = True

    def __init__(
        self,
        setting: Setting,
        *,
        bound: float,
        slack: float | None,
        gamma: float | None,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.bound, self.slack, self.gamma = bound, slack, gamma

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        source, target, n = domains.source, domains.target, len(domains.source)
        refuse_beyond(
            3 * n * n + n * len(target),
            source.device,
            f"the kernels of {n:,} source and {len(target):,} target samples",
            "Take fewer images (train.limit.samples, data.protocol=sampled), or method=kliep, "
            "whose kernels are small.",
        )
        gamma = torch.as_tensor(
            median_gamma(torch.cat([source, target])) if self.gamma is None else self.gamma,
            dtype=source.dtype,
        )
        kernel = rbf(source, source, gamma)
        kappa = rbf(source, target, gamma).sum(1) * n / len(target)
        slack = (n**0.5 - 1) / n**0.5 if self.slack is None else self.slack
        weights, converged = matched(kernel, kappa, self.bound, slack)
        if not converged:
            self.notes.append(
                f"kernel mean matching was ended after {STEPS:,} steps: the weights are near the "
                "optimum, not at it."
            )
        return self.learn_weighted(domains, weights)


def matched(kernel: Tensor, kappa: Tensor, bound: float, slack: float) -> tuple[Tensor, bool]:
    """The beta (n,) of the least beta^T K beta / 2 - kappa^T beta, and whether it was reached.

    It is in [0, bound], and |sum - n| <= n slack. By accelerated projected gradients (Beck &
    Teboulle 2009), restarted where they overshoot; the problem is convex.
    """
    n = len(kernel)
    # the largest row sum bounds it
    rate = 1 / torch.linalg.matrix_norm(kernel, ord=2) if n <= 500 else 1 / kernel.sum(1).max()
    beta = ahead = project(torch.ones_like(kappa), bound, slack)
    momentum = 1.0
    for _ in range(STEPS):
        new = project(ahead - rate * (kernel @ ahead - kappa), bound, slack)
        if bool(((ahead - new) * (new - beta)).sum() > 0):
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - beta)
        moved, beta, momentum = (new - beta).abs().max(), new, following
        if float(moved) < TOLERANCE * bound:
            return beta, True
    return beta, False


def project(x: Tensor, bound: float, slack: float) -> Tensor:
    """The nearest point with entries in [0, bound] and a sum within n (1 - slack) and n (1 +
    slack)."""
    n = len(x)
    inside = x.clamp(0, bound)
    total, low, high = float(inside.sum()), n * (1 - slack), min(n * (1 + slack), n * bound)
    low = min(low, n * bound)
    if low <= total <= high:
        return inside
    wanted = low if total < low else high
    # the shift between which the sum falls from n bound to 0
    below, above = (float(x.min()) - bound - 1, float(x.max()) + 1)
    for _ in range(100):
        middle = (below + above) / 2
        if float((x - middle).clamp(0, bound).sum()) > wanted:
            below = middle
        else:
            above = middle
    return (x - above).clamp(0, bound)
