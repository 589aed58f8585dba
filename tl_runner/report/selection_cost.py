"""Choices that each selection rule would have made, and what they cost.

Of runs that recorded their target test accuracy every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tl_runner.metrics import selection_rules as rules
from tl_runner.report.runs import Run
from tl_runner.report.statistics import Interval, interval, mean
from tl_runner.report.table import Row

EVERY = "all"  # the column of all data sets together


def regrets(run: Run) -> dict[str, float]:
    """Regret of each rule in a run: target test accuracy lost against the best epoch.

    Of the last phase; ``best`` is the accuracy of its best epoch.

    A rule takes the first epoch of the highest score, as training does. Empty where an epoch's
    accuracy was not recorded; a rule whose score was not is left out.
    """
    taken = rules.choices(run.epochs, run.stopped_at)
    lost = {rule: taken[rule].regret for rule in rules.LABEL_FREE if rule in taken}
    return {"best": taken["oracle"].accuracy, **lost} if taken else {}


def regret_table(rows: Sequence[Row]) -> list[tuple[Row, int, dict[str, float]]]:
    """Number of runs and mean :func:`regrets` of each row with recorded epochs."""
    table = []
    for row in rows:
        each = _of_runs(row)
        if each:
            shared = [
                name for name in ("best", *rules.LABEL_FREE) if all(name in found for found in each)
            ]
            table.append(
                (
                    row,
                    len(each),
                    {name: mean([found[name] for found in each]) or 0.0 for name in shared},
                )
            )
    return table


@dataclass(frozen=True)
class Regret:
    """Mean regret of a rule over the runs of a data set, or over those of all.

    With Student's interval over runs, cut to [0, 1].
    """

    rule: str
    data: str
    value: Interval


def rule_table(rows: Sequence[Row]) -> list[Regret]:
    """Mean regret by rule, for each data set and, where there are several, for ``all``.

    Each over the runs that recorded it.
    """
    by_data: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        by_data.setdefault(str(row.keys["data"]), []).extend(_of_runs(row))
    if len(by_data) > 1:
        by_data[EVERY] = [found for each in by_data.values() for found in each]
    return [
        Regret(rule, data, value)
        for rule in rules.LABEL_FREE
        for data, each in by_data.items()
        if (value := _within(interval([found[rule] for found in each if rule in found])))
    ]


def _within(value: Interval | None) -> Interval | None:
    if value is None or value.low is None or value.high is None:
        return value
    return replace(value, low=max(value.low, 0.0), high=min(value.high, 1.0))


def _of_runs(row: Row) -> list[dict[str, float]]:
    return [found for run in row.runs if run.status == "done" and (found := regrets(run))]
