"""JDA: components in which the domains' means and those of every class meet, the target's classes
guessed and guessed again.

Long, Wang, Ding, Sun & Yu, "Transfer Feature Learning with Joint Distribution Adaptation", ICCV
2013, algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._components import ComponentSpace, means_apart, transfer_components
from tl_runner.methods.features._learners import logits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting


class JDA(OnFeatures):
    """Joint distribution adaptation: L is the sum of MMD's over the domains and over each class of
    them (eq. 9).

    L is scaled to a Frobenius norm of 1, as in the authors' code. A class that no target sample is
    guessed to be of is left out of the sum.

    Args:
        dimensions: components.
        mu: weight of |W|^2.
        rounds: T, how often the components are computed: the first time without classes of the
            target, which the learner on the components then guesses for the next.
        kernel, gamma, landmarks, unit: those of :class:`ComponentSpace`.
    """

    numbers = False

    def __init__(
        self,
        setting: Setting,
        *,
        dimensions: int,
        mu: float,
        rounds: int,
        kernel: str,
        gamma: float | None,
        landmarks: int | None,
        unit: bool,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.dimensions, self.mu, self.rounds = dimensions, mu, rounds
        self.space = ComponentSpace(kernel, gamma, landmarks, unit, setting.seed)

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        x, kernel = self.space.design(domains)
        k = self.at_most(self.dimensions, min(len(x) - 1, x.shape[1]), "dimensions")
        n, guessed, w = len(domains.source), None, x
        for _ in range(self.rounds):
            contrasts = class_contrasts(domains, guessed)
            norm = (contrasts.T @ contrasts).norm()  # that of E E^T
            w = transfer_components(x, contrasts / norm.sqrt(), self.mu, k)
            z = self.space.normalised(x @ w)
            state = self.fit_learner(z[:n], domains.y)
            guessed = logits(state, z[n:], domains.classes).argmax(1)
        return self.learn_aligned(domains, {"source_map": w, "target_map": w, **kernel})

    def project(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        return self.space.project(maps, z, domain)


def class_contrasts(domains: Domains, guessed: Tensor | None) -> Tensor:
    """E (N + M, r) of the sum of MMD's L = E E^T: a column of the domains, and one of each class
    that both have.

    Args:
        guessed: classes of the target's samples, (M,); None: the column of the domains alone.
    """
    n, m, y = len(domains.source), len(domains.target), domains.y
    source = torch.arange(n + m, device=domains.source.device) < n
    columns = [means_apart(source, ~source)]
    if guessed is not None:
        labels = torch.cat([y, guessed])
        columns += [
            means_apart(source & (labels == c), ~source & (labels == c))
            for c in range(domains.classes)
            if bool((y == c).any()) and bool((guessed == c).any())
        ]
    return torch.cat(columns, dim=1)
