"""Tables as text cells, before any format.

The groups, a pivot, single runs, paired tests, selection rules, similarity measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tl_runner.errors import UserError, nearest
from tl_runner.report.cells import (
    gain_cell,
    interval_text,
    number_text,
    p_text,
    regret_cell,
    setting_text,
    value_cell,
)
from tl_runner.report.remarks import (
    ASSUMES,
    absences,
    constants,
    legend,
    remark,
    shown_keys,
    too_few,
)
from tl_runner.report.selection_cost import Regret
from tl_runner.report.similarity import Correlation
from tl_runner.report.table import Comparison, Row, metric_shown, sort_key


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
    """Groups, one line each: keys, mean ± standard deviation (n), gain, missing runs."""
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
    """Matrix of mean ± standard deviation (n) over two keys.

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
    """Single runs, one line each."""
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
    """Paired tests, one line a comparison."""
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
    """Mean regret of each selection rule in points, one column a data set.

    With its interval and the number of runs.
    """
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


def lay_out_similarity(found: Sequence[Correlation]) -> Grid:
    """Rank correlation of each similarity measure with the gain, one line a measure."""
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
