"""TrAdaBoost: boost on source and labelled target samples; source samples that are mistaken count
less and less.

Dai, Yang, Xue & Yu, "Boosting for Transfer Learning", ICML 2007, figure 1. For more than two
classes the target's side is SAMME: Zhu, Zou, Rosset & Hastie, "Multi-class AdaBoost", Statistics
and Its Interface 2009, algorithm 2.
"""

from __future__ import annotations

from math import log, sqrt
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._learners import logits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

LEAST = 1e-3  # a round's error is taken to be at least this, so that its vote is finite


class TrAdaBoost(OnFeatures):
    """Boosting whose rounds of the second half vote, each with the weight log(1 / beta_t).

    For several classes it is SAMME's, log((1 - e) / e) + log(K - 1), of which that is the case of
    two.

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
        x, y = domains.with_labelled(domains.source, domains.labelled)
        n, m = len(domains.source), len(domains.labelled)
        weights = torch.cat(
            [x.new_full((n,), (1 - self.share) / n), x.new_full((m,), self.share / m)]
        )
        # beta, the same in every round
        fade = 1 / (1 + sqrt(2 * log(n) / self.rounds)) if n > 1 else 0.5
        states, votes = [], []
        for _ in range(self.rounds):
            weights = weights / weights.sum()
            state = self.fit_learner(x, y, weights)
            wrong = logits(state, x, domains.classes).argmax(1) != y
            error = float((weights[n:] * wrong[n:]).sum() / weights[n:].sum())
            vote = self.vote(error)
            # no better than chance on the target: as in AdaBoost the rounds end here
            if vote is None:
                break
            states.append(state)
            votes.append(vote)
            factor = torch.cat([x.new_full((n,), fade), x.new_full((m,), torch.e**vote)])
            weights = torch.where(wrong, weights * factor, weights)
        if not states:
            states, votes = [state], [1.0]
        if len(states) < self.rounds:
            self.notes.append(
                f"boosting ended after {len(states)} of {self.rounds} rounds, the next no better "
                "than chance on the target."
            )
        late = slice((len(states) - 1) // 2, None)  # ceil(N / 2) to N, counted from 1
        return {"weights": weights[:n] * n, "votes": x.new_tensor(votes[late])} | {
            f"learner_{part}": torch.stack([state[part] for state in states[late]])
            for part in ("weight", "bias")
        }

    def vote(self, error: float) -> float | None:
        """The vote of a round with this error on the labelled target samples.

        None where it is no better than chance.
        """
        classes = self.setting.num_classes
        if error >= 1 - 1 / classes:
            return None
        error = max(error, LEAST)
        return log((1 - error) / error) + log(classes - 1)

    def logits(self, z: Tensor) -> Tensor:
        votes, state = self.fitted["votes"], self.fitted.part("learner_")
        scores = torch.einsum("bd,rkd->brk", z, state["weight"]) + state["bias"]
        chosen = F.one_hot(scores.argmax(2), self.setting.num_classes).to(z)
        return torch.einsum("brk,r->bk", chosen, votes)
