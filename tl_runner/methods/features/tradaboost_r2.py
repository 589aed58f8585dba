"""TrAdaBoost.R2: boosted regression on source and labelled target samples; source samples that are
far off count less and less.

Pardoe & Stone, "Boosting for Regression Transfer", ICML 2010, sections 3.1 and 3.2 (algorithm 3);
errors and votes are those of AdaBoost.R2: Drucker, "Improving Regressors using Boosting
Techniques", ICML 1997.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import Domains, OnFeatures
from tl_runner.methods.features._learners import logits

# a round's error is taken to be at least this, so that its vote is finite; and at most that, where
# the
LEAST, MOST = (1e-3, 0.49)
# target is still drowned out by the source, whose weights fall from round to round
ROUNDING = 1e-6  # of a sum of votes in single precision
HALVINGS, LARGEST = 60, 1e9  # of the interval in which the factor of a step is sought, and its end
State = Mapping[str, Tensor]


class TrAdaBoostR2(OnFeatures):
    """One stage: source and target weights change in every round, and the rounds of the second half
    vote. Two stages: the source's weights fall in ``steps`` until the target has all; at each, the
    target's own are boosted, and the step of the least error in cross-validation is kept.

    Args:
        rounds: N, of boosting.
        stages: 1 or 2.
        steps: S of two stages.
        folds: F of two stages.
    """

    weighted = True
    classes = False

    def __init__(
        self, setting: Setting, *, rounds: int, stages: int, steps: int, folds: int, **options: Any
    ):
        super().__init__(setting, **options)
        self.rounds, self.stages, self.steps, self.folds = rounds, stages, steps, folds
        self.protocol = f"{self.protocol}, {'one stage' if stages == 1 else 'two stages'}"

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        assert domains.labelled is not None
        assert domains.labelled_y is not None
        x, y = (
            torch.cat([domains.source, domains.labelled]),
            torch.cat([domains.y, domains.labelled_y]).double(),
        )
        n = len(domains.source)
        if self.stages == 2 and len(x) - n < 2:
            raise ConfigError(
                [
                    "method.stages=2 validates on labelled target samples, of which there is one: "
                    "set data.target_labels."
                ]
            )
        weights = x.new_full((len(x),), 1 / len(x))
        learned, votes = (
            self.one_stage(x, y, n, weights)
            if self.stages == 1
            else self.two_stages(x, y, n, weights)
        )
        parts = {
            part: torch.stack([state[part] for state in learned]) for part in ("weight", "bias")
        }
        return {"votes": shares(votes, x)} | {
            f"learner_{part}": tensor for part, tensor in parts.items()
        }

    def one_stage(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor
    ) -> tuple[list[State], list[float]]:
        """Section 3.1: the late rounds and their votes."""
        fade = 1 / (1 + sqrt(2 * log(n) / self.rounds)) if n > 1 else 0.5
        learned, votes = self.boosted(x, y, n, weights, fade)
        late = slice((len(learned) - 1) // 2, None)  # ceil(N / 2) to N, counted from 1
        return learned[late], votes[late]

    def two_stages(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor
    ) -> tuple[list[State], list[float]]:
        """Algorithm 3: the rounds and votes of the best step."""
        m, found = len(x) - n, []
        order = torch.randperm(m, generator=torch.Generator().manual_seed(self.setting.seed)).to(
            x.device
        )
        for step in range(1, self.steps + 1):
            found.append((self.validated(x, y, n, weights, order), weights))
            if step < self.steps:
                off = relative((self.answers(self.alone(x, y, weights), x) - y).abs())
                share = m / len(x) + step / (self.steps - 1) * (1 - m / len(x))
                weights = shifted(weights, off, n, share)
        best = min(range(len(found)), key=lambda i: found[i][0])
        self.keep(
            {
                "step": torch.tensor(best + 1),
                "validated": x.new_tensor([error for error, _ in found]),
            },
            x,
        )
        return self.boosted(x, y, n, found[best][1])

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``step``, which was kept, and ``validated``, the mean squared error of each, of two
        stages."""
        if "step" not in self.fitted:
            return {}
        return {
            "step": int(self.fitted["step"]),
            "validated": [round(error, 6) for error in self.fitted["validated"].tolist()],
        }

    def validated(self, x: Tensor, y: Tensor, n: int, weights: Tensor, order: Tensor) -> float:
        """The mean squared error of AdaBoost.R2' on labelled target samples, each of a fold that
        was left out."""
        folds, squared = min(self.folds, len(order)), []
        for f in range(folds):
            out = n + order[f::folds]
            kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
            kept[out] = False
            learned, votes = self.boosted(x[kept], y[kept], n, weights[kept])
            said = torch.cat([self.answers(state, x[out])[:, None] for state in learned], 1)
            squared.append((median(said, shares(votes, x)) - y[out]).square())
        return float(torch.cat(squared).mean())

    def boosted(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor, fade: float | None = None
    ) -> tuple[list[State], list[float]]:
        """AdaBoost.R2' of the paper: as Drucker's, but the weights of the first n samples stay.

        With ``fade`` its section 3.1: these fade by what they are off, and the error is that on the
        samples after them.
        """
        learned: list[State] = []
        votes: list[float] = []
        for _ in range(self.rounds):
            weights = weights / weights.sum()
            state = self.alone(x, y, weights)
            off = relative((self.answers(state, x) - y).abs())
            judged = slice(0 if fade is None else n, None)
            error = float(
                (weights[judged] * off[judged]).sum()
                / weights[judged].sum().clamp_min(torch.finfo(x.dtype).tiny)
            )
            if fade is None and error >= 0.5 and learned:  # as in AdaBoost.R2 the rounds end here
                break
            error = min(max(error, LEAST), MOST)
            beta = error / (1 - error)
            learned.append(state)
            votes.append(log(1 / beta))
            factor = torch.cat(
                [off.new_full((n,), 1.0) if fade is None else fade ** off[:n], beta ** -off[n:]]
            )
            if fade is None:  # the target's share stays, too
                own = weights[n:] * factor[n:]
                factor[n:] *= weights[n:].sum() / own.sum()
            weights = weights * factor
        return learned, votes

    def alone(self, x: Tensor, y: Tensor, weights: Tensor) -> State:
        """The learner, fitted once."""
        return {
            name.removeprefix("learner_"): tensor.to(x)
            for name, tensor in self.learned(x, y, weights).items()
        }

    @staticmethod
    def answers(state: State, x: Tensor) -> Tensor:
        return logits(state, x, 0)[:, 0]

    def logits(self, z: Tensor) -> Tensor:
        votes, state = self.fitted["votes"], self.fitted.part("learner_")
        said = torch.einsum("bd,rd->br", z, state["weight"][:, 0]) + state["bias"][:, 0]
        return median(said, votes)[:, None]


def relative(off: Tensor) -> Tensor:
    """Errors (N,) over the largest of them: between 0 and 1."""
    return off / off.max().clamp_min(torch.finfo(off.dtype).tiny)


def shares(votes: Sequence[float], like: Tensor) -> Tensor:
    """Votes as shares of all, (R,)."""
    found = like.new_tensor(votes)
    return found / found.sum()


def median(said: Tensor, votes: Tensor) -> Tensor:
    """The weighted median (B,) of numbers (B, R) with votes (R,) of sum 1: the least that at least
    half of the votes do not exceed."""
    values, order = said.sort(1)
    reached = votes[order].cumsum(1) >= 0.5 - ROUNDING
    return values.gather(1, reached.to(torch.int64).argmax(1, keepdim=True))[:, 0]


def shifted(weights: Tensor, off: Tensor, n: int, share: float) -> Tensor:
    """Weights (N,) of sum 1 whose first n are multiplied by beta^``off``, beta such that the
    others' share of all is ``share``."""
    # of the first n, before the sum is brought to 1
    wanted = float(weights[n:].sum()) * (1 / share - 1)

    def fallen(power: float) -> Tensor:
        return weights[:n] * torch.exp(-power * off[:n])

    low, high = 0.0, 1.0  # of -log(beta)
    while float(fallen(high).sum()) > wanted and high < LARGEST:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(fallen(middle).sum()) > wanted else (low, middle)
    found = torch.cat([fallen(high), weights[n:]])
    return found / found.sum()
