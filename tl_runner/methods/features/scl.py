"""Structural correspondence learning: what predicts features that matter in both domains becomes
features itself.

Blitzer, McDonald & Pereira, "Domain Adaptation with Structural Correspondence Learning", EMNLP
2006, figure 2; pivots by mutual information with the label: Blitzer, Dredze & Pereira,
"Biographies, Bollywood, Boom-boxes and Blenders", ACL 2007, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import ConfigError
from tl_runner.methods.features._base import ENOUGH, OnFeatures
from tl_runner.methods.features._components import signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

STEPS, TOLERANCE = 200, 1e-9


class SCL(OnFeatures):
    """Structural correspondence learning: predictors of pivots, compressed, as further features.

    A feature is present where it is above its mean over both domains; pivots are present in
    both.

    Args:
        pivots: how many features are predicted.
        dimensions: h, singular vectors of their predictors.
        share: alpha, the length of the new features beside the old ones, whose mean length they are
            brought to.
        decay: lambda of |w|^2 in each predictor's loss, modified Huber.
    """

    numbers = False

    def __init__(
        self,
        setting: Setting,
        *,
        pivots: int,
        dimensions: int,
        share: float,
        decay: float,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.pivots, self.dimensions, self.share, self.decay = pivots, dimensions, share, decay

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        both = torch.cat([domains.source, domains.target])
        mean = both.mean(0)
        here = both > mean
        pivots = self.choose_pivots(here, len(domains.source), domains.y, domains.classes)
        if not len(pivots):
            raise ConfigError(
                [
                    "no feature is above its mean in some samples of either domain and below in "
                    "others: try method.scale=each."
                ]
            )
        k = self.at_most(self.dimensions, len(pivots), "dimensions")
        scale = (both - mean).square().mean().sqrt().clamp_min(ENOUGH)
        # predicted from the other features
        inputs = ((both - mean) / scale).index_fill(1, pivots, 0.0)
        predictors = huber(inputs, here[:, pivots], self.decay)
        theta = signed(torch.linalg.svd(predictors, full_matrices=False).U[:, :k])  # (d, h)
        theta = theta.index_fill(0, pivots, 0.0)
        length = (both - mean).norm(dim=1).mean() / ((both - mean) @ theta).norm(
            dim=1
        ).mean().clamp_min(ENOUGH)
        identity = torch.eye(len(mean), dtype=both.dtype, device=both.device)
        augment = torch.cat([identity, self.share * length * theta], dim=1)
        maps = {"source_map": augment, "target_map": augment}
        return self.learn_aligned(domains, {**maps, "source_shift": mean, "target_shift": mean})

    def choose_pivots(self, here: Tensor, n: int, y: Tensor, classes: int) -> Tensor:
        """The pivots, positions of features, (at most ``pivots``,).

        They have the most information on the label among the features that are present in some, and
        not all, samples of either domain.

        Args:
            here: which features are present, bool (N + M, d), the source's n samples first.
            y: classes of the source's samples, (n,).
        """
        share = torch.stack([here[:n].double().mean(0), here[n:].double().mean(0)])
        common = ((share > 0) & (share < 1)).all(0)
        information = mutual_information(here[:n], y, classes).masked_fill(~common, -torch.inf)
        order = information.argsort(descending=True, stable=True)[
            : min(self.pivots, int(common.sum()), len(common) - 1)
        ]
        return order.sort().values


def mutual_information(here: Tensor, y: Tensor, classes: int) -> Tensor:
    """The mutual information (d,) of each binary feature (N, d) with the class (N,), in nats."""
    onehot = torch.nn.functional.one_hot(y, classes).double()
    there = onehot.T @ here.double() / len(y)  # (K, d)
    joint = torch.stack([there, onehot.mean(0)[:, None] - there])  # (2, K, d)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return torch.where(
        joint > 0, joint * (joint / apart.clamp_min(1e-300)).clamp_min(1e-300).log(), 0.0
    ).sum((0, 1))


def huber(x: Tensor, here: Tensor, decay: float) -> Tensor:
    """Linear predictors (d, p), and a bias each that is left out, of p binary targets (N, p) from
    features (N, d).

    They minimise the mean modified Huber loss plus decay |w|^2, each; all at once, by L-BFGS, the
    problems being convex.
    """
    x1 = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    signs = here.to(x) * 2 - 1
    w = x.new_zeros(x1.shape[1], here.shape[1]).requires_grad_()
    tool = torch.optim.LBFGS(
        [w],
        max_iter=STEPS,
        tolerance_grad=TOLERANCE,
        tolerance_change=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        tool.zero_grad()
        margin = signs * (x1 @ w)
        each = torch.where(margin < -1, -4 * margin, (1 - margin).clamp_min(0).square()).mean(0)
        total = (each + decay * w[:-1].square().sum(0)).sum()
        total.backward()
        return total

    with torch.enable_grad():
        tool.step(loss)
    return w.detach()[:-1]
