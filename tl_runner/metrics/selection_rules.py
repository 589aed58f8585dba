"""Table of the selection rules, and the epoch that each takes. No torch.

A rule says where its score stands in ``metrics.jsonl`` and what it needs.

This is the one list of them: the command's checks, the training, the record and the report all read
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

TRUTH = ("target_test", "accuracy")


@dataclass(frozen=True)
class Rule:
    """One rule: the first epoch of the last phase whose score is highest.

    Attributes:
        split, name: of the score in ``metrics.jsonl``; empty for ``last``, which looks at none.
        needs: the splits without which there is no score.
        features: whether it also needs the phase's features of both domains (``Outputs.embed``).
        target_labels: whether it looks at labels of the target.
        shown: the score's name in the line that an epoch prints; empty leaves it out unless the
            rule decides.
    """

    split: str = ""
    name: str = ""
    needs: tuple[str, ...] = ()
    features: bool = False
    shown: str = ""
    target_labels: bool = False


# whose features dev and reverse_validation read
COMPARED = ("source_train", "source_val", "target_train")
RULES = {
    "last": Rule(),
    "source_val": Rule("source_val", "accuracy", ("source_val",), shown="source_val accuracy"),
    "target_val": Rule(
        "target_val", "accuracy", ("target_val",), shown="target_val accuracy", target_labels=True
    ),
    "meta_val": Rule("meta_val", "accuracy", ("meta_val",), shown="meta_val accuracy"),
    "entropy": Rule("target_train", "entropy", ("target_train",)),
    "im": Rule("target_train", "im", ("target_train",), shown="target im"),
    "snd": Rule("target_train", "snd", ("target_train",)),
    "bnm": Rule("target_train", "bnm", ("target_train",)),
    "dev": Rule("source_val", "dev", COMPARED, features=True),
    "reverse_validation": Rule("source_val", "reverse_validation", COMPARED, features=True),
    "oracle": Rule(
        *TRUTH, ("target_test",), shown="target_test accuracy (oracle)", target_labels=True
    ),
}
LABEL_FREE = tuple(name for name, rule in RULES.items() if not rule.target_labels)
# splits that are evaluated; target_train is also what a phase on the target alone trains on
EVALUATED = ("source_val", "target_val", "meta_val", "target_train", "source_test", "target_test")
# what an evaluated split's row may hold
EVALUATIONS = {
    "log_loss",
    "mse",
    "rmse",
    "mae",
    "r2",
    *(rule.name for rule in RULES.values() if rule.name),
}


def scores(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Score of each rule, from an epoch's metrics by split; a rule without one is left out."""
    return {
        name: found[rule.split][rule.name]
        for name, rule in RULES.items()
        if rule.name in found.get(rule.split, {})
    }


def shown(scores: Mapping[str, float], selection: str) -> dict[str, float]:
    """Scores that the line of an epoch names.

    The usual ones and the one that decides; an oracle's only if it does.

    What belongs to no rule is named as it is.
    """
    others = {name: score for name, score in scores.items() if name not in RULES}
    return others | {
        rule.shown or name: scores[name]
        for name, rule in RULES.items()
        if name in scores and (name == selection or (rule.shown and name != "oracle"))
    }


@dataclass(frozen=True)
class Choice:
    """Choice of a rule.

    The epoch, its score then (None for ``last``), the target test accuracy then, and what that
    lost.
    """

    epoch: int
    score: float | None
    accuracy: float
    regret: float


def choices(rows: Iterable[Mapping[str, Any]], stopped: int | None = None) -> dict[str, Choice]:
    """Choice of each rule among the epochs of the last phase.

    From the rows of ``metrics.jsonl``, whatever those hold.

    ``regret`` is how much target test accuracy (of the images watched every epoch) it loses against
    the best epoch, which ``oracle`` takes. Empty where that accuracy was not recorded at every
    epoch, or there was one only; a rule whose score was not is left out. ``stopped`` is the epoch
    that early stopping went back to, which is then the last one.
    """
    rows = [row for row in rows if "step" in row]
    last = rows[-1].get("phase") if rows else None
    rows = [row for row in rows if row.get("phase") == last and _whole(row.get("epoch"))]
    epochs = sorted({row["epoch"] for row in rows})

    def by_epoch(split: str, name: str) -> dict[int, float]:
        found = {
            row["epoch"]: float(row[name])
            for row in rows
            if row.get("split") == split and _finite(row.get(name))
        }
        return found if len(found) == len(epochs) else {}

    accuracy = by_epoch(*TRUTH)
    if len(accuracy) < 2:
        return {}
    best, taken = max(accuracy.values()), {}
    for name, rule in RULES.items():
        score = by_epoch(rule.split, rule.name)
        if score or name == "last":
            epoch = (
                max(epochs, key=score.__getitem__)
                if score
                else stopped
                if stopped in accuracy
                else epochs[-1]
            )
            taken[name] = Choice(epoch, score.get(epoch), accuracy[epoch], best - accuracy[epoch])
    return taken


def as_json(taken: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """:func:`choices` as ``result.json`` has them."""
    return {name: asdict(choice) for name, choice in taken.items()}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
