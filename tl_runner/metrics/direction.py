"""Table of the metrics that a run records: which way is better. No torch.

Similarity measures have theirs in ``similarity/measures.py``.
"""

from __future__ import annotations

import re

_AVERAGED = tuple(
    f"{name}_{average}"
    for name in ("precision", "recall", "f1")
    for average in ("macro", "micro", "weighted")
)
FRACTIONS_HIGHER = (
    "accuracy",
    "balanced_accuracy",
    *_AVERAGED,
    "auc_macro",
    "average_precision_macro",
    # estimates of an accuracy that nobody can measure
    "atc",
    "doc",
)
FRACTIONS_LOWER = ("ece", "forgetting")
# shares of 1, which are shown in percent
FRACTIONS = frozenset((*FRACTIONS_HIGHER, *FRACTIONS_LOWER))

HIGHER_IS_BETTER = frozenset(
    (
        *FRACTIONS_HIGHER,
        "r2",
        # label-free selection scores, each made so that higher is better
        "entropy",
        "im",
        "snd",
        "bnm",
        "dev",
        "reverse_validation",
        # numbers of the whole run
        "score",
        "images_per_s",
    )
)
LOWER_IS_BETTER = frozenset(
    (*FRACTIONS_LOWER, "log_loss", "mse", "rmse", "mae", "wall_s", "peak_memory_mb")
)

INTERVAL = "_ci95"  # half the 95 % interval of a score
_AFTER_STEPS = re.compile(r"_after_\d+$")  # a score after so many inner steps


def quantity(name: str) -> str:
    """Metric that a name is of: ``mse`` of ``mse_after_5`` and of ``mse_ci95``."""
    return _AFTER_STEPS.sub("", name.removesuffix(INTERVAL))


def is_known(name: str) -> bool:
    """True if the table has a metric, named without its split."""
    return quantity(name) in HIGHER_IS_BETTER | LOWER_IS_BETTER


def lower_is_better(name: str) -> bool:
    """True if less of a metric is better, such as ``mse``, ``mse_after_5`` or ``accuracy_ci95``.

    Args:
        name: without its split.

    Raises:
        KeyError: no table has this metric; ask :func:`is_known` first where it is a user's word.
    """
    if not is_known(name):
        raise KeyError(f"{name}: no such metric, so which way is better is not known")
    return name.endswith(INTERVAL) or quantity(name) in LOWER_IS_BETTER
