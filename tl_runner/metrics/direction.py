"""Which way is better, by a metric's name. No torch."""

from __future__ import annotations

LOWER_IS_BETTER = (
    "forgetting",
    "log_loss",
    "ece",
    "mse",
    "rmse",
    "mae",
    "wall_s",
    "peak_memory_mb",
    "before",
    "after",
)


def lower_is_better(name: str) -> bool:
    """Of a metric without its split, such as ``mse`` or ``mse_after_5``."""
    return name.startswith(LOWER_IS_BETTER) or name.endswith("_ci95")
