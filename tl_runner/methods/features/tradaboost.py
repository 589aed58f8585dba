"""TrAdaBoost: boost on source and labelled target samples; source samples that are mistaken count
less and less.

Dai, Yang, Xue & Yu, "Boosting for Transfer Learning", ICML 2007, figure 1. For more than two
classes the target's side is SAMME: Zhu, Zou, Rosset & Hastie, "Multi-class AdaBoost", Statistics
and Its Interface 2009, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Domains, OnFeatures
from tl_runner.methods.features._learners import logits

LEAST = 1e-3  # a round's error is taken to be at least this, so that its vote is finite


class TrAdaBoost(OnFeatures):
    """The rounds of the second half vote, each with the weight log(1 / beta_t), or of SAMME log((1
    - e) / e) + log(K - 1).

    Args:
        rounds: N.
        target_share: of the weight that the labelled target samples have together at first, which
            the paper leaves to the user.
    """

    weighted = True
    numbers = False

    def __init__(self, setting: Setting, *, rounds: int, target_share: float, **options: Any):
        super().__init__(setting, **options)
        self.rounds, self.share = rounds, target_share
        form = (
            "binary, as in the paper" if setting.num_classes == 2 else "SAMME for several classes"
        )
        self.protocol = f"{self.protocol}, {form}"

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        assert domains.labelled is not None
        assert domains.labelled_y is not None
        x, y = (
            torch.cat([domains.source, domains.labelled]),
            torch.cat([domains.y, domains.labelled_y]),
        )
        n, m = len(domains.source), len(domains.labelled)
        weights = torch.cat(
            [x.new_full((n,), (1 - self.share) / n), x.new_full((m,), self.share / m)]
        )
        # beta, the same in every round
        fade = 1 / (1 + sqrt(2 * log(n) / self.rounds)) if n > 1 else 0.5
        learned: list[Mapping[str, Tensor]] = []
        votes: list[float] = []
        for _ in range(self.rounds):
            weights = weights / weights.sum()
            state = {name: t.to(x) for name, t in self.learned(x, y, weights).items()}
            wrong = (
                logits(
                    {name.removeprefix("learner_"): t for name, t in state.items()},
                    x,
                    domains.classes,
                ).argmax(1)
                != y
            )
            error = float((weights[n:] * wrong[n:]).sum() / weights[n:].sum())
            vote = self.vote(error)
            # no better than chance on the target: as in AdaBoost the rounds end here
            if vote is None:
                break
            learned.append(state)
            votes.append(vote)
            factor = torch.cat([x.new_full((n,), fade), x.new_full((m,), torch.e**vote)])
            weights = torch.where(wrong, weights * factor, weights)
        if not learned:
            learned, votes = [state], [1.0]
        if len(learned) < self.rounds:
            self.said.append(
                f"boosting ended after {len(learned)} of {self.rounds} rounds, the next no better "
                "than chance on the target."
            )
        late = slice((len(learned) - 1) // 2, None)  # ceil(N / 2) to N, counted from 1
        counted = learned[late]
        return {"weights": weights[:n] * n, "votes": x.new_tensor(votes[late])} | {
            f"learner_{part}": torch.stack([state[f"learner_{part}"] for state in counted])
            for part in ("weight", "bias")
        }

    def vote(self, error: float) -> float | None:
        """Of a round with this error on the labelled target samples; None where it is no better
        than chance."""
        classes = self.setting.num_classes
        if error >= 1 - 1 / classes:
            return None
        error = max(error, LEAST)
        return log((1 - error) / error) + log(classes - 1)

    def logits(self, z: Tensor) -> Tensor:
        votes, state = self.fitted["votes"], self.fitted.part("learner_")
        said = torch.einsum("bd,rkd->brk", z, state["weight"]) + state["bias"]
        chosen = torch.nn.functional.one_hot(said.argmax(2), self.setting.num_classes).to(z)
        return torch.einsum("brk,r->bk", chosen, votes)
