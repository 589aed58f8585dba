"""Metric that a table shows: its name, its unit and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tl_runner.errors import UserError, nearest
from tl_runner.metrics import direction
from tl_runner.report.runs import Run
from tl_runner.similarity import measures

USUAL = "target_test.accuracy"


@dataclass(frozen=True)
class Metric:
    """Quantity that a table is of.

    Attributes:
        name: ``split.name``, a number of the whole run, or a similarity measure such as
            ``distances.before.mmd``.
        quantity: the metric or measure without its split, which says how to show it.
    """

    name: str
    quantity: str

    @property
    def of_similarity(self) -> bool:
        """True if it is a similarity measure, not a metric."""
        return self.name.partition(".")[0] in measures.SECTIONS

    @property
    def percent(self) -> bool:
        """True if it is a share of 1 that is shown in percent."""
        return not self.of_similarity and direction.quantity(self.quantity) in direction.FRACTIONS

    @property
    def lower_is_better(self) -> bool:
        """True if less of it is better.

        Raises:
            KeyError: no table has it; :func:`metric_of` makes no such metric.
        """
        table = measures if self.of_similarity else direction
        return table.lower_is_better(self.quantity)

    @property
    def is_known(self) -> bool:
        """True if a table says which way is better."""
        if self.of_similarity:
            return self.quantity in (*measures.BY_NAME, measures.MMD_P)
        return direction.is_known(self.quantity)

    @property
    def title(self) -> str:
        return f"{self.quantity}, %" if self.percent else self.quantity


def metric_of(name: str | None, runs: Iterable[Run]) -> Metric:
    """Metric of a name; without one, accuracy on the target where every run has it, else the score.

    Raises:
        UserError: no run has it, or which way is better is not known.
    """
    runs = list(runs)
    known = sorted({known for run in runs if run.status == "done" for known in run.metrics()})
    if name is None:
        everywhere = all(USUAL in run.metrics() for run in runs if run.status == "done")
        name = USUAL if everywhere or "score" not in known else "score"
    elif name not in known:
        raise UserError(
            f"--metric {name}: no run has it.{nearest(name, known)} There is: "
            f"{', '.join(known) or 'nothing, no run is done'}."
        )
    metric = Metric(name, quantity_of(name))
    if not metric.is_known:
        raise UserError(
            f"--metric {name}: {metric.quantity} is no metric of tl-run's, so which way is better "
            "is not known."
        )
    return scored_by(metric, runs)


def quantity_of(name: str) -> str:
    """Last part of a metric's name, or the measure where that is ``before`` or ``after``."""
    section, _, rest = name.partition(".")
    return (
        section
        if section in measures.BY_NAME and "." not in rest
        else rest.rpartition(".")[2] or name
    )


def scored_by(metric: Metric, runs: Iterable[Run]) -> Metric:
    """Metric with what ``score`` is in these runs, if that is one known thing.

    The score is accuracy in one data set and an error in another.
    """
    known = {str(run.result.get("metric")) for run in runs if run.status == "done"}
    if metric.name == "score" and len(known) == 1:
        found = replace(metric, quantity=known.pop())
        return found if found.is_known else metric
    return metric
