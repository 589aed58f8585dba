"""Tables as text cells, before any format: the groups, a pivot, single runs, paired tests,
selection rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tl_runner.errors import UserError, nearest
from tl_runner.report.runs import CHOICES, Run
from tl_runner.report.selection_cost import Regret
from tl_runner.report.similarity import Correlation
from tl_runner.report.statistics import LEAST_WILCOXON, Interval
from tl_runner.report.table import BEGINNINGS, Comparison, Metric, Row, metric_shown, sort_key

ASSUMES = (
    "The t-test and the interval assume that the differences between runs of the same seed are "
    "independent and roughly normal; "
    "p is two-sided and not corrected for the number of comparisons."
)


@dataclass(frozen=True)
class Grid:
    """A table: ``numeric`` columns are set to the right, ``best`` cells (row, column) stand out.

    Below stand ``notes``, what the signs mean, and ``absent``, which runs have no part in the
    numbers.
    """

    columns: list[str]
    numeric: list[bool]
    body: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def lay_out(rows: Sequence[Row], only_changed: bool = False) -> Grid:
    """One line a group: keys, mean ± standard deviation (n), gain over the baseline, how many runs
    are missing."""
    keys, metric = shown_keys(rows, only_changed), metric_shown(rows)
    gains, remarks = any(row.gain for row in rows), any(remark(row) for row in rows)
    columns = [
        *keys,
        metric.title,
        *(["gain"] if gains else []),
        "missing",
        *(["remarks"] if remarks else []),
    ]
    body = [
        [
            *(setting_text(row.keys[k]) for k in keys),
            value_cell(row),
            *([gain_cell(row)] if gains else []),
            str(len(row.absent)),
            *([remark(row)] if remarks else []),
        ]
        for row in rows
    ]
    numeric = [
        *(False for _ in keys),
        True,
        *([True] if gains else []),
        True,
        *([False] if remarks else []),
    ]
    best = frozenset((i, len(keys)) for i, row in enumerate(rows) if row.best)
    same = (
        [", ".join(f"{k} {v}" for k, v in constants(rows).items()) + " in all rows."]
        if only_changed and constants(rows)
        else []
    )
    return Grid(
        columns, numeric, body, best, [*same, *legend(rows, bool(best), gains)], absences(rows)
    )


def lay_out_pivot(rows: Sequence[Row], down: str, across: str) -> Grid:
    """A matrix of mean ± standard deviation (n).

    Raises:
        UserError: a key does not exist, or several rows would share a cell.
    """
    keys = list(rows[0].keys)
    for key in (down, across):
        if key not in keys:
            raise UserError(
                f"--pivot {key}: no such column.{nearest(key, keys)} There is: {', '.join(keys)}."
            )
    heads = sorted({row.keys[across] or "–" for row in rows}, key=sort_key)
    lines = list(dict.fromkeys(row.keys[down] or "–" for row in rows))
    cells: dict[tuple[str, str], Row] = {}
    for row in rows:
        place = (row.keys[down] or "–", row.keys[across] or "–")
        if place in cells:
            others = [
                k for k in keys if k not in (down, across) and row.keys[k] != cells[place].keys[k]
            ]
            raise UserError(
                f"--pivot {down} {across}: {place[0]}, {place[1]} is several rows, which differ "
                f"in {', '.join(others)}."
            )
        cells[place] = row
    body = [
        [line, *(value_cell(cells[line, head]) if (line, head) in cells else "" for head in heads)]
        for line in lines
    ]
    best = frozenset(
        (lines.index(a), 1 + heads.index(b)) for (a, b), row in cells.items() if row.best
    )
    return Grid(
        [down, *heads],
        [False, *(True for _ in heads)],
        body,
        best,
        legend(rows, bool(best), False),
        absences(rows),
    )


def lay_out_runs(rows: Sequence[Row], only_changed: bool = False) -> Grid:
    """One line a run."""
    keys, metric = shown_keys(rows, only_changed), metric_shown(rows)
    body = [
        [
            *(row.keys[k] or "–" for k in keys),
            "" if run.seed is None else str(run.seed),
            number_text(row.metric, run.value(metric.name)),
            run.status,
            run.folder.name,
        ]
        for row in rows
        for run in row.runs
    ]
    columns = [*keys, "seed", metric.title, "status", "folder"]
    return Grid(
        columns, [*(False for _ in keys), True, True, False, False], body, absent=absences(rows)
    )


def lay_out_paired(comparisons: Sequence[Comparison]) -> Grid:
    """One line a comparison."""
    unit = ", points" if comparisons and all(c.metric.percent for c in comparisons) else ""
    together = [c.keys for c in comparisons]
    every = dict.fromkeys(k for keys in together for k in keys)
    keys = [k for k in every if k == "data" or len({keys.get(k) for keys in together}) > 1]
    body = [
        [
            *(c.keys.get(k) or "–" for k in keys),
            f"{c.a} − {c.b}",
            interval_text(c.metric, c.test.difference),
            p_text(c.test.t_p),
            p_text(c.test.wilcoxon_p),
            str(c.test.n),
        ]
        for c in comparisons
    ]
    columns = [*keys, "difference of", f"mean{unit} [95 %]", "t-test p", "Wilcoxon p", "pairs"]
    return Grid(
        columns,
        [*(False for _ in keys), False, True, True, True, True],
        body,
        notes=[*too_few(comparisons), ASSUMES],
    )


def lay_out_rules(found: Sequence[Regret]) -> Grid:
    """One line a selection rule, one column a data set: mean regret in points, its interval and the
    number of runs."""
    names, data = (
        list(dict.fromkeys(getattr(one, key) for one in found)) for key in ("rule", "data")
    )
    cells = {(one.rule, one.data): one.value for one in found}
    body = [[rule, *(regret_cell(cells.get((rule, name))) for name in data)] for rule in names]
    least = {
        name: min(value.mean for (_, of), value in cells.items() if of == name) for name in data
    }
    best = {
        (names.index(rule), 1 + data.index(name))
        for (rule, name), value in cells.items()
        if value.mean == least[name]
    }
    notes = [
        "Points of target test accuracy lost against the best epoch of the last phase, which only "
        "an oracle finds: mean over runs "
        "[Student's 95 % interval, cut at 0] (number of runs).",
        "* best of its column: the least lost.",
    ]
    if any(len({value.n for (_, of), value in cells.items() if of == name}) > 1 for name in data):
        notes.append("Not every run recorded every rule.")
    return Grid(["selection", *data], [False, *(True for _ in data)], body, frozenset(best), notes)


def lay_out_likeness(found: Sequence[Correlation]) -> Grid:
    """One line a score of likeness: its rank correlation with the gain."""
    body = [
        [one.score, f"{one.tau:+.2f}", f"{one.p:.3f}", str(one.n), str(one.data), one.reading]
        for one in found
    ]
    notes = [
        "Kendall's tau-b between a score before transfer and the gain over the baseline, each "
        "group's mean over seeds one point; p: how "
        "often as much comes of exchanging the scores between data sets, since all groups of one "
        "share it.",
        "transferability reads target test labels, for the record alone.",
    ]
    return Grid(
        ["score", "tau", "p", "groups", "data sets", "reading"],
        [False, True, True, True, True, False],
        body,
        frozenset(),
        notes,
    )


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


def too_few(comparisons: Sequence[Comparison]) -> list[str]:
    """What could not be tested, and why."""
    if not comparisons:
        return ["No two groups agree in all other keys, so there is nothing to pair."]
    few = min(c.test.n for c in comparisons)
    said = []
    if few < 2:
        said.append("Fewer than two common seeds: no test and no interval.")
    if few < LEAST_WILCOXON:
        said.append(f"Wilcoxon's test needs {LEAST_WILCOXON} pairs or more to be able to reject.")
    return said


def shown_keys(rows: Sequence[Row], only_changed: bool) -> list[str]:
    """The key columns, all or those that differ; one is left to name a single row."""
    keys = list(rows[0].keys)
    changed = [k for k in keys if len({row.keys[k] for row in rows}) > 1]
    return (changed or keys[:1]) if only_changed else keys


def constants(rows: Sequence[Row]) -> dict[str, str]:
    """The choices that are the same in all rows."""
    changed = shown_keys(rows, only_changed=True)
    return {k: rows[0].keys[k] or "–" for k in CHOICES if k not in changed}


def remark(row: Row) -> str:
    """What one must know of a row beside its numbers."""
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
    """In words where a gain is not above zero by its interval; nothing where it is, or where there
    is no interval."""
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
    """What the signs mean."""
    metric = metric_shown(rows)
    lower = " Lower is better." if metric.lower_is_better else ""
    if len(quantities := sorted({row.metric.title for row in rows if row.values})) > 1:
        lower = f" By data set it is {' or '.join(quantities)}; of an error lower is better."
    said = [f"{metric.name}: mean ± standard deviation over seeds (number of runs).{lower}"]
    rules = {
        str(run.result["selection"])
        for row in rows
        for run in row.runs
        if run.status == "done" and "selection" in run.result
    }
    if len(rules) == 1:
        said.append(f"Weights by selection={rules.pop()}.")
    if best:
        said.append(
            "* best mean of its data set over the seeds that all have"
            + ("; oracles do not take part." if any(row.oracle for row in rows) else ".")
        )
    if gains:
        said.append(
            f"Gain over {rows[0].against}: mean difference of runs with the same seed [Student's "
            "95 % interval]."
        )
    return said


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
    """How many runs have each status."""
    return dict(Counter(run.status for run in runs))


# ---- numbers as text


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
