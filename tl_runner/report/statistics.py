"""Means, spreads and paired comparisons over seeds. SciPy is imported when a number needs it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_WILCOXON = 6  # with fewer pairs the signed-rank test cannot reach p < 0.05


@dataclass(frozen=True)
class Interval:
    """A mean with Student's 95 % interval; no bounds from one value."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """One against the other over the seeds that both have.

    Attributes:
        difference: the mean of (a - b) with its interval; None without a common seed.
        t_p: two-sided p of the paired t-test; None with fewer than two pairs, or if all differences
            are equal.
        wilcoxon_p: two-sided p of the signed-rank test; None with fewer than ``LEAST_WILCOXON``
            pairs.
    """

    n: int
    difference: Interval | None
    t_p: float | None
    wilcoxon_p: float | None


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean, correctly rounded, so the order does not matter; None of nothing."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None from fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and Student's 95 % interval, mean ± t(0.975, n - 1) s / sqrt(n)."""
    if not values:
        return None
    centre, spread, n = statistics.fmean(values), deviation(values), len(values)
    if spread is None:
        return Interval(centre, None, None, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * spread / n**0.5
    return Interval(centre, centre - half, centre + half, n)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired:
    """Compare two sets of values by seed, over the seeds they have in common."""
    # accuracies are counts over N: equal differences must tie, which they do not to the last bit
    differences = [round(a[seed] - b[seed], 12) for seed in sorted(a.keys() & b.keys())]
    n, spread = len(differences), deviation(differences)
    t_p = wilcoxon_p = None
    if spread and spread > 1e-12:
        from scipy.special import stdtr

        t = statistics.fmean(differences) / (spread / n**0.5)
        t_p = 2 * float(stdtr(n - 1, -abs(t)))
    if sum(d != 0 for d in differences) >= LEAST_WILCOXON:
        from scipy.stats import wilcoxon

        wilcoxon_p = float(wilcoxon(differences).pvalue)
    return Paired(n, interval(differences), t_p, wilcoxon_p)
