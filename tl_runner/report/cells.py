"""Numbers and settings as the text of one cell."""

from __future__ import annotations

from tl_runner.report.metric import Metric
from tl_runner.report.statistics import Interval
from tl_runner.report.table import Row


def number_text(metric: Metric, value: float | None, sign: str = "") -> str:
    """Percent with one decimal, else three decimals, or none above 100."""
    if value is None:
        return ""
    if metric.percent:
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign},.0f}"


def value_cell(row: Row) -> str:
    """``96.9 ± 1.5 (5)``; no ± from a single run."""
    if row.mean is None:
        return "– (0)"
    spread = "" if row.std is None else f" ± {number_text(row.metric, row.std)}"
    return f"{number_text(row.metric, row.mean)}{spread} ({row.n})"


def gain_cell(row: Row) -> str:
    """The gain, and how many pairs it is of where that is fewer than the runs."""
    pairs = (
        f" ({row.gain.n} pair{'s' * (row.gain.n != 1)})" if row.gain and row.gain.n < row.n else ""
    )
    return interval_text(row.metric, row.gain) + pairs


def setting_text(value: str | None, most: int = 8) -> str:
    """A key's value; of a number that a search drew, the first four digits."""
    if value is None:
        return "–"
    try:
        return value if len(value) <= most else f"{float(value):.4g}"
    except ValueError:
        return value


def interval_text(metric: Metric, value: Interval | None) -> str:
    """``+54.0 [+48.7, +59.3]``; no brackets from a single pair."""
    if value is None:
        return ""
    bounds = (
        ""
        if value.low is None
        else f" [{number_text(metric, value.low, '+')}, {number_text(metric, value.high, '+')}]"
    )
    return number_text(metric, value.mean, "+") + bounds


def p_text(p: float | None) -> str:
    """Three decimals, or ``<0.001``."""
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def regret_cell(value: Interval | None) -> str:
    """``1.2 [0.4, 2.0] (15)``; no brackets from a single run."""
    if value is None:
        return ""
    bounds = (
        ""
        if value.low is None or value.high is None
        else f" [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    )
    return f"{100 * value.mean:.1f}{bounds} ({value.n})"
