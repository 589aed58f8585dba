"""Table of runs grouped by all that varies between them but the seed.

One row a group, with its gain over a baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tl_runner.errors import UserError, nearest
from tl_runner.report.metric import Metric, metric_of, scored_by
from tl_runner.report.reading import warn
from tl_runner.report.runs import CHOICES, Run
from tl_runner.report.statistics import Interval, Paired, deviation, mean, paired

BASELINE = "source_only"
# the baseline of what learns from target labels, where no row is of source_only
SCRATCH = "target_only"
FLOOR = "no_transfer"  # the same of methods that fit on features
ALONE = "student alone"  # of methods that distil: the same student taught by labels alone
# phases of other methods that stand in for these rows
BEGINNINGS = {BASELINE: "pretrain", ALONE: "alone"}
# keys of methods that these depend on
OF_BEGINNINGS = ("method.pretrain.", "method.distil.", "method.leave_out")
_NO_DIFFERENCE = {"seed", "data.root", "data.download"}  # keys that do not make another experiment

Keys = dict[str, str | None]


@dataclass(frozen=True, eq=False)
class Row:
    """Group of runs that differ by the seed only.

    Attributes:
        keys: the choices, and every override that varies; None where the group has no such key.
        metric: what ``values`` are of.
        values: by seed, in its order, of the runs that are done.
        absent: the runs that give no value: failed, interrupted, missing, or without this metric.
        repeated: runs of a seed that another run has given already.
        gain: over the baseline with the same other keys, paired by seed; None if there is no pair.
        against: the baseline.
        best: the best mean of its data set over the seeds that all rivals have. Oracles do not take
            part; and where rivals are settings of one method there is none, since to choose between
            those by target labels would make an oracle.
        oracle: labels of the target were used, of its test images or where others of the data set
            went without.
        derived: not run by itself: a phase of other rows.
    """

    keys: Keys
    metric: Metric
    values: Mapping[int, float]
    runs: Sequence[Run] = ()
    absent: Sequence[Run] = ()
    repeated: Sequence[Run] = ()
    gain: Interval | None = None
    against: str = BASELINE
    best: bool = False
    oracle: bool = False
    derived: bool = False
    mean: float | None = field(init=False)
    std: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", mean(list(self.values.values())))
        object.__setattr__(self, "std", deviation(list(self.values.values())))

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Comparison:
    """Paired test of two rows.

    ``keys`` are the other keys, which agree or which one of the two has.
    """

    a: str
    b: str
    keys: Keys
    metric: Metric
    test: Paired


def rows(runs: Sequence[Run], metric: str | None = None, against: str | None = None) -> list[Row]:
    """Table of ``runs``, whatever their order: by data set, the baseline first.

    Args:
        metric: ``split.name``, such as ``target_test.f1_macro``, or ``score``, ``wall_s``, ...; by
            default ``target_test.accuracy`` where a run has it, else each run's score.
        against: the method that gains are over; by default source_only, or where there is none
            no_transfer or target_only.

    Raises:
        UserError: no run has that metric, or no row is of that baseline.
    """
    shown = metric_of(metric, runs)
    keys = [*CHOICES, *varying(runs)]
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(
            tuple(run.choices[k] if k in CHOICES else run.setting(k) for k in keys), []
        ).append(run)
    table = [
        _row(dict(zip(keys, group, strict=True)), shown, members)
        for group, members in groups.items()
    ]
    table += [row for method, phase in BEGINNINGS.items() for row in _begun(table, method, phase)]
    table = [
        replace(row, oracle=row.oracle and (_no_baseline(row) or _beyond_others(row, table)))
        for row in table
    ]
    methods = {row.keys["method"] for row in table}
    known = sorted(map(str, methods))
    if against and against not in methods:
        raise UserError(
            f"--against {against}: no group is of this method.{nearest(against, known)} There is: "
            f"{', '.join(known)}."
        )
    base = against or next(
        (name for name in (BASELINE, FLOOR, SCRATCH, ALONE) if name in methods), BASELINE
    )
    table.sort(key=lambda row: _order(row, base))
    return [
        replace(row, against=base, gain=_gain(row, table, base), best=_is_best(row, table))
        for row in table
    ]


def metric_shown(rows: Sequence[Row]) -> Metric:
    """Metric of rows; where it is accuracy of some and an error of others, ``score``."""
    metrics = {row.metric for row in rows if row.values} or {rows[0].metric}
    return metrics.pop() if len(metrics) == 1 else Metric(rows[0].metric.name, "score")


def varying(runs: Iterable[Run]) -> list[str]:
    """Overrides whose values differ between those runs that have the key."""
    runs = list(runs)
    overridden = {key for run in runs for key in run.overrides} - _NO_DIFFERENCE
    return sorted(key for key in overridden if len({run.setting(key) for run in runs} - {None}) > 1)


def matches(a: Keys, b: Keys, aside: str) -> bool:
    """True if two rows agree in every key but ``aside``.

    A key that one of them does not have does not tell them apart.
    """
    return all(a[k] == b[k] or None in (a[k], b[k]) for k in a if k != aside)


def compare(table: Sequence[Row], a: str, b: str) -> list[Comparison]:
    """Paired tests of the rows of ``a`` against those of ``b``.

    One for each setting of the other keys.

    Args:
        a, b: two values of one key: two methods, or for instance ``0.3`` and ``0.6`` of
            ``method.adapt.gate``.

    Raises:
        UserError: no key has both values.
    """
    keys = list(table[0].keys) if table else []
    aside = next((k for k in keys if {a, b} <= {row.keys[k] for row in table}), None)
    if aside is None or a == b:
        known = sorted({value for row in table for value in row.keys.values() if value})
        unknown = [name for name in (a, b) if name not in known]
        hints = " ".join(f"{name}: no group has this.{nearest(name, known)}" for name in unknown)
        raise UserError(
            f"--paired {a} {b}: {hints or 'these are not two values of one key.'} There is: "
            f"{', '.join(known)}."
        )
    return [
        Comparison(
            a,
            b,
            {k: v or other.keys[k] for k, v in one.keys.items() if k != aside},
            one.metric,
            paired(one.values, other.values),
        )
        for one in table
        for other in table
        if one.keys[aside] == a and other.keys[aside] == b and matches(one.keys, other.keys, aside)
    ]


def _row(keys: Keys, metric: Metric, runs: list[Run]) -> Row:
    """Row of a group, in which one run a seed counts.

    A done run comes before another, then the one that ended last.
    """
    first: dict[object, Run] = {}
    repeated = []
    newest_first = sorted(
        runs, key=lambda r: (str(r.result.get("ended", "")), str(r.folder)), reverse=True
    )
    for run in sorted(newest_first, key=lambda r: r.value(metric.name) is None):
        if run.seed is not None and run.seed in first:
            repeated.append(run)
        else:
            first[run.folder if run.seed is None else run.seed] = run
    kept = sorted(first.values(), key=_by_seed)
    values = {
        run.seed: value
        for run in kept
        if run.seed is not None and (value := run.value(metric.name)) is not None
    }
    if twice := sorted(
        {run.seed for run in repeated if run.status == "done" and run.seed is not None}
    ):
        warn(
            f"{' '.join(str(v) for v in keys.values() if v)}: seed {', '.join(map(str, twice))} "
            "was run more than once; the last counts."
        )
    return Row(
        keys,
        scored_by(metric, kept),
        values,
        runs=kept,
        absent=[run for run in kept if run.value(metric.name) is None or run.seed is None],
        repeated=repeated,
        oracle=any(run.result.get("uses_target_labels") is True for run in kept),
    )


def _by_seed(run: Run) -> tuple:
    return (run.seed is None, run.seed or 0, str(run.folder))


def _begun(table: Sequence[Row], method: str, phase: str) -> list[Row]:
    """Rows of a method that was not run, from phases of others that are what it is."""
    found: dict[
        tuple[tuple, bool, Metric], dict[int, float]
    ] = {}  # apart where these had target labels and where they had none
    for row in table:
        aside = [
            k
            for k in row.keys
            if k.startswith(("method.", "teacher.")) and not k.startswith(OF_BEGINNINGS)
        ]
        keys = {
            **row.keys,
            **dict.fromkeys([*aside, *(k for k in row.keys if k == "backbone@teacher")]),
            "method": method,
        }
        if any(
            other.keys["method"] == method and matches(other.keys, keys, "method")
            for other in table
        ):
            continue
        for run in row.runs:
            value = run.after(phase, row.metric.name) if run.status == "done" else None
            if value is not None and run.seed is not None:
                found.setdefault((tuple(keys.items()), run.saw_labels, row.metric), {}).setdefault(
                    run.seed, value
                )
    return [
        Row(dict(keys), metric, dict(sorted(seeds.items())), derived=True, oracle=saw)
        for (keys, saw, metric), seeds in found.items()
    ]


def _no_baseline(row: Row) -> bool:
    """True if a row stands in for source_only and had target labels, so that it is none."""
    return row.derived and row.keys["method"] == BASELINE


def _beyond_others(row: Row, table: Sequence[Row]) -> bool:
    """True if a row used target labels that others of its data set went without.

    Or an epoch was chosen by the test labels.
    """
    chosen = any(run.result.get("selection") == "oracle" for run in row.runs)
    return chosen or any(r.keys["data"] == row.keys["data"] and r.n and not r.oracle for r in table)


def baseline(row: Row, table: Sequence[Row], base: str) -> Row | None:
    """Row of the method ``base`` with the same other keys; None unless there is exactly one."""
    if row.keys["method"] == base:
        return None
    bases = [
        r for r in table if r.keys["method"] == base and r.n and matches(r.keys, row.keys, "method")
    ]
    if len(bases) > 1 and all(base.derived for base in bases):
        bases = [base for base in bases if base.oracle == any(run.saw_labels for run in row.runs)]
    return bases[0] if len(bases) == 1 else None


def _gain(row: Row, table: Sequence[Row], base: str) -> Interval | None:
    over = baseline(row, table, base)
    return paired(row.values, over.values).difference if over else None


def _is_best(row: Row, table: Sequence[Row]) -> bool:
    """True if a row has the best mean over the seeds that all rivals have.

    Settings of one method are not chosen between by the target's test labels.
    """
    rivals = [r for r in table if r.n and not r.oracle and r.keys["data"] == row.keys["data"]]
    if not row.n or row.oracle or len(rivals) < 2:
        return False
    common = set.intersection(*(set(r.values) for r in rivals))
    if not common:
        return False
    means = {id(r): fmean(r.values[seed] for seed in sorted(common)) for r in rivals}
    settings = Counter(tuple(r.keys[k] for k in CHOICES) for r in rivals)
    if (
        row.metric.name.startswith(("target_test", "meta_test", "score"))
        and max(settings.values()) > 1
    ):
        return False
    return means[id(row)] == (min if row.metric.lower_is_better else max)(means.values())


def _order(row: Row, base: str) -> list:
    others = [sort_key(value) for key, value in row.keys.items() if key not in ("method", "data")]
    return [
        sort_key(row.keys["data"]),
        row.keys["method"] != base,
        sort_key(row.keys["method"]),
        others,
    ]


def sort_key(value: str | None) -> tuple:
    """Sort key that puts numbers by size before words."""
    try:
        return (0, float(value or ""), "")
    except ValueError:
        return (1, 0.0, value or "")
