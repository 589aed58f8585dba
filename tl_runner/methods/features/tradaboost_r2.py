"""TrAdaBoost.R2: boosted regression on source and labelled target samples; source samples that are
far off count less and less.

Pardoe & Stone, "Boosting for Regression Transfer", ICML 2010, sections 3.1 and 3.2 (algorithm 3);
errors and votes are those of AdaBoost.R2: Drucker, "Improving Regressors using Boosting
Techniques", ICML 1997.
"""

from __future__ import annotations

from math import log, sqrt
from typing import TYPE_CHECKING, Any

import torch

from tl_runner.errors import ConfigError
from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._learners import logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.features._learners import State
    from tl_runner.methods.setting import Setting

# a round's error is taken to be at least the one, so that its vote is finite, and at most the
# other, where the source, whose weights fall from round to round, still drowns the target out
LEAST, MOST = 1e-3, 0.49
ROUNDING = 1e-6  # of a sum of votes in single precision
HALVINGS, LARGEST = 60, 1e9  # of the interval in which the factor of a step is sought, and its end


class TrAdaBoostR2(OnFeatures):
    """Boosted regression, in one stage or in two.

    One stage: source and target weights change in every round, and the rounds of the second half
    vote. Two stages: the source's weights fall in ``steps`` until the target has all; at each, the
    target's own are boosted, and the step of the least error in cross-validation is kept.

    Args:
        rounds: N, of boosting.
        stages: 1 or 2.
        steps: S of two stages.
        folds: F of two stages.

    Raises:
        ConfigError: another number of stages; two of them with a single labelled target sample.
    """

    weighted = True
    classes = False

    def __init__(
        self, setting: Setting, *, rounds: int, stages: int, steps: int, folds: int, **options: Any
    ):
        super().__init__(setting, **options)
        if stages not in (1, 2):
            raise ConfigError([f"method.stages={stages} should be 1 or 2."])
        self.rounds, self.stages, self.steps, self.folds = rounds, stages, steps, folds
        self.protocol = f"{self.protocol}, {'one stage' if stages == 1 else 'two stages'}"

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        assert domains.labelled is not None
        x, y = domains.with_labelled(domains.source, domains.labelled)
        y, n = y.double(), len(domains.source)
        if self.stages == 2 and len(x) - n < 2:
            raise ConfigError(
                [
                    "method.stages=2 validates on labelled target samples, of which there is one: "
                    "set data.target_labels."
                ]
            )
        weights = x.new_full((len(x),), 1 / len(x))
        train = self.one_stage if self.stages == 1 else self.two_stages
        states, votes = train(x, y, n, weights)
        return {"votes": shares(votes, x)} | {
            f"learner_{part}": torch.stack([state[part] for state in states])
            for part in ("weight", "bias")
        }

    def one_stage(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor
    ) -> tuple[list[State], list[float]]:
        """The late rounds and their votes, by section 3.1."""
        fade = 1 / (1 + sqrt(2 * log(n) / self.rounds)) if n > 1 else 0.5
        states, votes = self.boost(x, y, n, weights, fade)
        late = slice((len(states) - 1) // 2, None)  # ceil(N / 2) to N, counted from 1
        return states[late], votes[late]

    def two_stages(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor
    ) -> tuple[list[State], list[float]]:
        """The rounds of the best step and their votes, by algorithm 3."""
        m, found = len(x) - n, []
        draw = torch.Generator().manual_seed(self.setting.seed)
        order = torch.randperm(m, generator=draw).to(x.device)
        for step in range(1, self.steps + 1):
            found.append((self.validation_error(x, y, n, weights, order), weights))
            if step < self.steps:
                off = relative((predict(self.fit_learner(x, y, weights), x) - y).abs())
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
        return self.boost(x, y, n, found[best][1])

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of two stages ``step``, which was kept, and ``validated``, each one's mean squared
        error."""
        if "step" not in self.fitted:
            return {}
        return {
            "step": int(self.fitted["step"]),
            "validated": [round(error, 6) for error in self.fitted["validated"].tolist()],
        }

    def validation_error(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor, order: Tensor
    ) -> float:
        """The mean squared error of AdaBoost.R2' on labelled target samples, by cross-validation.

        Args:
            order: of the samples after the first n, which are cut into folds in it.
        """
        folds, squared = min(self.folds, len(order)), []
        for f in range(folds):
            out = n + order[f::folds]
            kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
            kept[out] = False
            states, votes = self.boost(x[kept], y[kept], n, weights[kept])
            predicted = torch.cat([predict(state, x[out])[:, None] for state in states], 1)
            squared.append((median(predicted, shares(votes, x)) - y[out]).square())
        return float(torch.cat(squared).mean())

    def boost(
        self, x: Tensor, y: Tensor, n: int, weights: Tensor, fade: float | None = None
    ) -> tuple[list[State], list[float]]:
        """The rounds of the paper's AdaBoost.R2' and their votes.

        It is Drucker's, but the weights of the first n samples stay. With ``fade`` it is that of
        section 3.1: these fade by their errors, and the round's error is that on the samples after
        them.
        """
        states: list[State] = []
        votes: list[float] = []
        for _ in range(self.rounds):
            weights = weights / weights.sum()
            state = self.fit_learner(x, y, weights)
            off = relative((predict(state, x) - y).abs())
            judged = slice(0 if fade is None else n, None)
            error = float(
                (weights[judged] * off[judged]).sum()
                / weights[judged].sum().clamp_min(torch.finfo(x.dtype).tiny)
            )
            if fade is None and error >= 0.5 and states:  # as in AdaBoost.R2 the rounds end here
                break
            error = min(max(error, LEAST), MOST)
            beta = error / (1 - error)
            states.append(state)
            votes.append(log(1 / beta))
            factor = torch.cat(
                [off.new_full((n,), 1.0) if fade is None else fade ** off[:n], beta ** -off[n:]]
            )
            if fade is None:  # the target's share stays, too
                own = weights[n:] * factor[n:]
                factor[n:] *= weights[n:].sum() / own.sum()
            weights = weights * factor
        return states, votes

    def logits(self, z: Tensor) -> Tensor:
        votes, state = self.fitted["votes"], self.fitted.part("learner_")
        predicted = torch.einsum("bd,rd->br", z, state["weight"][:, 0]) + state["bias"][:, 0]
        return median(predicted, votes)[:, None]


def predict(state: State, x: Tensor) -> Tensor:
    """Numbers (N,) of features (N, k), by a fitted learner."""
    return logits(state, x, 0)[:, 0]


def relative(off: Tensor) -> Tensor:
    """Errors (N,) over the largest of them: between 0 and 1."""
    return off / off.max().clamp_min(torch.finfo(off.dtype).tiny)


def shares(votes: Sequence[float], like: Tensor) -> Tensor:
    """Votes as shares of all, (R,)."""
    found = like.new_tensor(votes)
    return found / found.sum()


def median(predicted: Tensor, votes: Tensor) -> Tensor:
    """The weighted median (B,) of predictions (B, R) with votes (R,) of sum 1.

    It is the least prediction that at least half of the votes do not exceed.
    """
    values, order = predicted.sort(1)
    reached = votes[order].cumsum(1) >= 0.5 - ROUNDING
    return values.gather(1, reached.to(torch.int64).argmax(1, keepdim=True))[:, 0]


def shifted(weights: Tensor, off: Tensor, n: int, share: float) -> Tensor:
    """Weights (N,) of sum 1, the first n multiplied by beta^``off``, so that the others' share of
    all is ``share``."""
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
