"""Words beside a table's numbers: remarks on a row, what the signs mean, which runs are absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tl_runner.errors import human_list
from tl_runner.metrics.selection_rules import RULES
from tl_runner.report.metric import Metric
from tl_runner.report.runs import CHOICES, Run
from tl_runner.report.statistics import LEAST_WILCOXON
from tl_runner.report.table import BEGINNINGS, Comparison, Row, metric_shown

ASSUMES = (
    "The t-test and the interval assume that the differences between runs of the same seed are "
    "independent and roughly normal; "
    "p is two-sided and not corrected for the number of comparisons."
)


def shown_keys(rows: Sequence[Row], only_changed: bool) -> list[str]:
    """Key columns, all or those that differ; one is left to name a single row."""
    keys = list(rows[0].keys)
    changed = [k for k in keys if len({row.keys[k] for row in rows}) > 1]
    return (changed or keys[:1]) if only_changed else keys


def constants(rows: Sequence[Row]) -> dict[str, str]:
    """Choices that are the same in all rows."""
    changed = shown_keys(rows, only_changed=True)
    return {k: rows[0].keys[k] or "–" for k in CHOICES if k not in changed}


def remark(row: Row) -> str:
    """Remarks on a row beside its numbers."""
    parts = (
        "oracle: saw target labels" if row.oracle else "",
        f"the others' {BEGINNINGS[str(row.keys['method'])]} phase" if row.derived else "",
        verdict(row),
        f"{len(row.repeated)} repeated run{'s' * (len(row.repeated) != 1)} left out"
        if row.repeated
        else "",
    )
    return "; ".join(part for part in parts if part)


def verdict(row: Row) -> str:
    """Words for a gain that is not above zero by its interval.

    Empty where it is, or where there is no interval.
    """
    gain = row.gain
    if gain is None or gain.low is None or gain.high is None:
        return ""
    low, centre, high = (
        (-gain.high, -gain.mean, -gain.low)
        if row.metric.lower_is_better
        else (gain.low, gain.mean, gain.high)
    )
    if high < 0:
        return "negative transfer"
    return "" if low > 0 else f"{'loss' if centre < 0 else 'gain'} not beyond chance"


def legend(rows: Sequence[Row], best: bool, gains: bool) -> list[str]:
    """Sentences on what the table's signs mean."""
    metric = metric_shown(rows)
    lower = " Lower is better." if metric.lower_is_better else ""
    if len(quantities := sorted({row.metric.title for row in rows if row.values})) > 1:
        lower = f" By data set it is {' or '.join(quantities)}; of an error lower is better."
    sentences = [f"{metric.name}: mean ± standard deviation over seeds (number of runs).{lower}"]
    label_free = {rule.name for rule in RULES.values() if rule.split == "target_train"}
    if scores := label_free & {row.metric.quantity for row in rows if row.values}:
        sentences.append(
            f"{human_list(sorted(scores))}: a label-free score of the target's predictions, by "
            "which runs are compared where nobody has labels; it is no accuracy."
        )
    rules = {
        str(run.result["selection"])
        for row in rows
        for run in row.runs
        if run.status == "done" and "selection" in run.result
    }
    if len(rules) == 1:
        sentences.append(f"Weights by selection={rules.pop()}.")
    if best:
        sentences.append(
            "* best mean of its data set over the seeds that all have"
            + ("; oracles do not take part." if any(row.oracle for row in rows) else ".")
        )
    if gains:
        sentences.append(
            f"Gain over {rows[0].against}: mean difference of runs with the same seed [Student's "
            "95 % interval]."
        )
    return sentences


def absences(rows: Sequence[Row]) -> list[str]:
    """Each run that is not in the means, with the first line of its error."""
    return [
        f"not in the means: {label(row, run, rows)}: {why(run, row.metric)}"
        for row in rows
        for run in row.absent
    ]


def label(row: Row, run: Run, rows: Sequence[Row]) -> str:
    """A run's name by what tells it apart."""
    names = [
        row.keys[k] or "–"
        for k in dict.fromkeys(["method", "data", *shown_keys(rows, only_changed=True)])
    ]
    return " ".join([*names, "" if run.seed is None else f"seed {run.seed}"]).strip()


def why(run: Run, metric: Metric, most: int = 90) -> str:
    """Status and the first line of the error, shortened."""
    if run.status == "done" and run.seed is None:
        return "done, but its seed is not known"
    if run.status == "done":
        return f"done, but {metric.name} is not defined"
    line = run.error.strip().split("\n")[0]
    line = line if len(line) <= most else line[: most - 1].rstrip() + "…"
    return f"{run.status}: {line}" if line else run.status


def counts(runs: Iterable[Run]) -> dict[str, int]:
    """Number of runs of each status."""
    return dict(Counter(run.status for run in runs))


def too_few(comparisons: Sequence[Comparison]) -> list[str]:
    """Sentences on what could not be tested, and why."""
    if not comparisons:
        return ["No two groups agree in all other keys, so there is nothing to pair."]
    few = min(c.test.n for c in comparisons)
    sentences = []
    if few < 2:
        sentences.append("Fewer than two common seeds: no test and no interval.")
    if few < LEAST_WILCOXON:
        sentences.append(
            f"Wilcoxon's test needs {LEAST_WILCOXON} pairs or more to be able to reject."
        )
    return sentences
