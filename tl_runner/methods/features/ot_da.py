"""Optimal transport: move every source sample to where the transport plan sends it among the
target's.

Courty, Flamary, Tuia & Rakotomamonjy, "Optimal Transport for Domain Adaptation", IEEE TPAMI 2017:
the entropic plan and the barycentric mapping. Courty, Flamary & Tuia, "Domain Adaptation with
Regularized Optimal Transport", ECML PKDD 2014: classes kept together, with p = 1/2 and its
majorisation. Sinkhorn's iteration: Cuturi, NIPS 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import refuse_beyond
from tl_runner.methods.features._learners import CHUNK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

STEPS, TOLERANCE = 1000, 1e-9
MOST_OFF = 0.01  # of the mass, beyond which the user is told
ROUNDS = 10  # of the majorisation


class OTDA(OnFeatures):
    """Optimal transport: the learner sees the source's samples where the plan moves them.

    Other images of the source move as their nearest neighbour did.

    Args:
        plan_entropy: weight of the plan's negative entropy, in units of the largest cost; costs are
            squared distances.
        class_weight: weight of the term that lets each target sample's mass be of one class; 0:
            without.
    """

    numbers = False

    def __init__(
        self, setting: Setting, *, plan_entropy: float, class_weight: float, **options: Any
    ):
        super().__init__(setting, **options)
        self.entropy, self.class_weight = plan_entropy, class_weight

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        moved = self.moved(domains)
        kept = {"from": domains.source, "way": moved - domains.source}
        return kept | self.learn(*domains.with_labelled(moved, domains.labelled))

    def moved(self, domains: Domains) -> Tensor:
        """The source's samples (N, d) where the plan sends them: each the mean of the target's,
        weighed by its row of the plan."""
        source, target = domains.source, domains.target
        refuse_beyond(
            4 * len(source) * len(target),
            source.device,
            f"the transport plan of {len(source):,} source and {len(target):,} target samples",
            "Take fewer images: train.limit.samples, data.protocol=sampled.",
        )
        cost = torch.cdist(source, target, compute_mode="use_mm_for_euclid_dist").square()
        cost = cost / cost.max().clamp_min(torch.finfo(cost.dtype).tiny)
        plan = by_class(cost, domains.y, self.entropy, self.class_weight)
        off = float((plan.sum(1) - 1 / len(plan)).abs().sum())
        if off > MOST_OFF:
            self.notes.append(
                f"the transport plan was ended after {STEPS:,} steps, with {100 * off:.1f} % of "
                "the mass out of place: raise method.plan_entropy."
            )
        return plan @ target / plan.sum(1, keepdim=True)

    def mapped(self, z: Tensor, domain: str) -> Tensor:
        if domain == "target":
            return z
        nearest = torch.cat(
            [
                torch.cdist(rows, self.fitted["from"].to(z.dtype)).argmin(1)
                for rows in z.split(CHUNK)
            ]
        )
        return z + self.fitted["way"].to(z.dtype)[nearest]


def sinkhorn(cost: Tensor, entropy: float) -> Tensor:
    """The plan (n, m) of the least <plan, cost> + entropy sum plan (log plan - 1).

    Its marginals are even, 1/n and 1/m. In logarithms, so that no entropy is too small for it.
    """
    n, m = cost.shape
    kernel = -cost / entropy
    a, b = -torch.log(cost.new_tensor(float(n))), -torch.log(cost.new_tensor(float(m)))
    u, v = cost.new_zeros(n), cost.new_zeros(m)
    for step in range(STEPS):
        u = a - torch.logsumexp(kernel + v, 1)
        v = b - torch.logsumexp(kernel + u[:, None], 0)
        if step % 10 == 9:
            rows = torch.exp(torch.logsumexp(kernel + u[:, None] + v, 1))
            if float((rows - 1 / n).abs().sum()) < TOLERANCE:
                break
    return torch.exp(kernel + u[:, None] + v)


def by_class(cost: Tensor, y: Tensor, entropy: float, weight: float) -> Tensor:
    """The plan (n, m) that also keeps classes together, by majorisation.

    To what :func:`sinkhorn` minimises comes ``weight`` times sum_jc |plan[y = c, j]|_1^(1/2).
    """
    plan = sinkhorn(cost, entropy)
    if not weight:
        return plan
    classes = [(y == c).nonzero().squeeze(1) for c in y.unique().tolist()]
    for _ in range(ROUNDS):
        more = torch.zeros_like(cost)
        for rows in classes:
            more[rows] = 0.5 / (plan[rows].sum(0) + 1e-3).sqrt()
        plan = sinkhorn(cost + weight * more, entropy)
    return plan
