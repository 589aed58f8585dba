"""JDA: components in which the domains' means and those of every class meet, the target's classes
guessed and guessed again.

Long, Wang, Ding, Sun & Yu, "Transfer Feature Learning with Joint Distribution Adaptation", ICCV
2013, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Domains
from tl_runner.methods.features._components import TransferComponents, means_apart, shared
from tl_runner.methods.features._learners import logits


class JDA(TransferComponents):
    """L is the sum of MMD's over the domains and over each class of them (eq. 9), scaled to a
    Frobenius norm of 1 as in the authors' code.

    A class that no target sample is guessed to be of is left out of the sum.

    Args:
        rounds: T, how often the components are computed: the first time without classes of the
            target, which the learner on the components then guesses for the next.
    """

    numbers = False

    def __init__(self, setting: Setting, *, rounds: int, **options: Any):
        super().__init__(setting, **options)
        self.rounds = rounds

    def components(self, x: Tensor, domains: Domains, k: int) -> Tensor:
        n = len(domains.source)
        source = torch.arange(len(x), device=x.device) < n
        between = means_apart(source, ~source)
        guessed: Tensor | None = None
        w = x
        for _ in range(self.rounds):
            columns = [between]
            if guessed is not None:
                truth = torch.cat([domains.y, guessed])
                there = [
                    c
                    for c in range(domains.classes)
                    if bool((domains.y == c).any()) and bool((guessed == c).any())
                ]
                columns += [
                    means_apart(source & (truth == c), ~source & (truth == c)) for c in there
                ]
            contrasts = torch.cat(columns, dim=1)
            norm = (contrasts.T @ contrasts).norm()  # that of E E^T
            w = shared(x, contrasts / norm.sqrt(), self.mu, k)
            z = self.united(x @ w)
            state = {
                name.removeprefix("learner_"): t.to(z) if t.is_floating_point() else t.to(z.device)
                for name, t in self.learned(z[:n], domains.y).items()
            }
            guessed = logits(state, z[n:], domains.classes).argmax(1)
        return w
