"""Tables for the terminal, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from tl_runner.files import csv_text
from tl_runner.report.grid import Grid, lay_out
from tl_runner.report.runs import Run
from tl_runner.report.selection_cost import Regret
from tl_runner.report.similarity import Correlation
from tl_runner.report.table import Comparison, Row

PIPED_WIDTH = 100
SHORTEST_WORD = 8  # letters to which a column of words may shrink before it wraps further


def terminal(
    rows: Sequence[Row], console: Console | None = None, only_changed: bool = False
) -> str:
    """Table of groups for the console, as :func:`draw` makes it.

    Columns that are equal in all rows are left out where it does not fit.
    """
    console = console or Console()
    full = lay_out(rows, only_changed)
    fits = _natural(_table(full)) <= (console.width if console.is_terminal else PIPED_WIDTH)
    return draw(full if fits else lay_out(rows, only_changed=True), console)


def draw(grid: Grid, console: Console | None = None) -> str:
    """Table for the console: in colour and its width on a terminal, plain text when piped.

    Piped, a row is always one line.

    Only words wrap, never numbers: a table that cannot get narrow enough is wider than the
    terminal.
    """
    console = console or Console()
    table = _table(grid)
    if console.is_terminal:
        words = [
            column
            for column, numeric in zip(table.columns, grid.numeric, strict=True)
            if not numeric
        ]
        least = _natural(table) - sum(max(0, _longest(column) - SHORTEST_WORD) for column in words)
        width = max(console.width, least)
    else:
        width = max(PIPED_WIDTH, _natural(table))
    paper = Console(
        file=io.StringIO(),
        width=width,
        color_system=console.color_system,  # type: ignore[arg-type]
        force_terminal=console.is_terminal,
    )
    with paper.capture() as captured:
        paper.print(table)
        for note in (*grid.notes, *grid.absent):
            paper.print(Text(" " + one_line_of(note)), soft_wrap=not console.is_terminal)
    return "\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()) + "\n"


def _natural(table: Table) -> int:
    wide = Console(width=10_000)
    return Measurement.get(wide, wide.options, table).maximum


def _longest(column: Column) -> int:
    return max(cell_len(str(cell)) for cell in (column.header, *column.cells))


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name, numeric in zip(grid.columns, grid.numeric, strict=True):
        table.add_column(
            Text(name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    starred = {j for _, j in grid.best}
    for i, cells in enumerate(grid.body):
        marks = [
            "" if j not in starred else " *" if (i, j) in grid.best else "  "
            for j in range(len(cells))
        ]
        table.add_row(
            *(
                Text(one_line_of(c) + m, style="bold" if m == " *" else "")
                for c, m in zip(cells, marks, strict=True)
            )
        )
    return table


def markdown(grid: Grid) -> str:
    """Table in GitHub's Markdown; the best in bold."""
    lines = [
        _markdown_row(grid.columns),
        _markdown_row(["---:" if numeric else "---" for numeric in grid.numeric], escape=False),
    ]
    for i, cells in enumerate(grid.body):
        marked = [
            f"**{_markdown(c)}**" if (i, j) in grid.best else _markdown(c)
            for j, c in enumerate(cells)
        ]
        lines.append(_markdown_row(marked, escape=False))
    notes = [
        f"- {_markdown(note.replace('* best', 'Bold: best'))}"
        for note in (*grid.notes, *grid.absent)
    ]
    return "\n".join([*lines, "", *notes]) + "\n"


def _markdown_row(cells: Sequence[str], escape: bool = True) -> str:
    return f"| {' | '.join(_markdown(c) if escape else c for c in cells)} |"


def _markdown(text: str) -> str:
    return (
        re.sub(r"([\\|*`\[\]])", r"\\\1", one_line_of(text))
        .replace("&", "&amp;")
        .replace("<", "&lt;")
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "…": r"\ldots{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def latex(grid: Grid) -> str:
    """Table as a ``tabular`` with the rules of booktabs; the notes are comments above it."""
    lines = [
        f"% {one_line_of(note.replace('* best', 'bold: best'))}"
        for note in (*grid.notes, *grid.absent)
    ]
    lines += [
        f"\\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in grid.numeric)}}}",
        r"\toprule",
    ]
    lines += [" & ".join(map(latex_escape, grid.columns)) + r" \\", r"\midrule"]
    for i, cells in enumerate(grid.body):
        marked = [
            f"\\textbf{{{latex_escape(c)}}}" if (i, j) in grid.best else latex_escape(c)
            for j, c in enumerate(cells)
        ]
        lines.append(" & ".join(marked) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_escape(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line_of(text))


def one_line_of(text: str) -> str:
    """Text without line breaks and control characters.

    A hostile folder could send those to the terminal.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def csv_groups(rows: Sequence[Row]) -> str:
    """CSV of the groups, one line a group; raw numbers (fractions, not percent)."""
    keys = list(rows[0].keys)
    measured = ["n", "mean", "std", "gain", "gain_low", "gain_high", "gain_pairs"]
    head = [*keys, "metric", "quantity", *measured, "best", "oracle", "from_pretrain"]
    statuses = ["failed", "interrupted", "running", "missing", "undefined"]
    lines = []
    for row in rows:
        absent = [run.status if run.status != "done" else "undefined" for run in row.absent]
        gain = [row.gain.mean, row.gain.low, row.gain.high, row.gain.n] if row.gain else [None] * 4
        flags = [int(row.best), int(row.oracle), int(row.derived)]
        numbers = [row.n, row.mean, row.std, *gain]
        metric = [row.metric.name, row.metric.quantity]
        lines.append([*row.keys.values(), *metric, *numbers, *flags, *map(absent.count, statuses)])
    return _csv([*head, *statuses], lines)


def csv_runs(rows: Sequence[Row]) -> str:
    """CSV of the runs, one line a run; raw numbers."""
    lines = [
        [
            *row.keys.values(),
            run.seed,
            row.metric.name,
            row.metric.quantity,
            run.value(row.metric.name),
            run.status,
            run.error,
            run.folder,
        ]
        for row in rows
        for run in row.runs
    ]
    return _csv(
        [*rows[0].keys, "seed", "metric", "quantity", "value", "status", "error", "folder"], lines
    )


def csv_grid(grid: Grid) -> str:
    """CSV of a pivot or of paired tests as they are shown."""
    return _csv(grid.columns, grid.body)


def csv_rules(found: Sequence[Regret]) -> str:
    """CSV of the selection rules, one line a rule and data set; raw fractions, not points."""
    lines = [
        [one.rule, one.data, one.value.n, one.value.mean, one.value.low, one.value.high]
        for one in found
    ]
    return _csv(["selection", "data", "n", "regret", "regret_low", "regret_high"], lines)


def csv_similarity(found: Sequence[Correlation]) -> str:
    """CSV of the similarity measures' correlations with the gain, one line a measure."""
    return _csv(
        ["score", "tau", "p", "groups", "data_sets"],
        [[one.score, one.tau, one.p, one.n, one.data] for one in found],
    )


def _csv(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    return csv_text([head, *lines])


def as_json(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison] = (),
    regrets: Sequence[Regret] = (),
    similarity: Sequence[Correlation] = (),
) -> str:
    """JSON of everything: groups, and each run with folder, error, settings and metrics."""
    groups = [
        {
            "keys": row.keys,
            "metric": row.metric.name,
            "quantity": row.metric.quantity,
            "mean": row.mean,
            "std": row.std,
            "n": row.n,
            "by_seed": {str(seed): value for seed, value in row.values.items()},
            "gain": asdict(row.gain) if row.gain else None,
            "best": row.best,
            "oracle": row.oracle,
            "from_pretrain": row.derived,
            "runs": [_run(run) for run in (*row.runs, *row.repeated)],
        }
        for row in rows
    ]
    tables = {"paired": [asdict(c) for c in comparisons], "rules": [asdict(r) for r in regrets]}
    tables["similarity"] = [
        asdict(c) | {"tau": None if isnan(c.tau) else c.tau, "p": None if isnan(c.p) else c.p}
        for c in similarity
    ]
    content = {"metric": rows[0].metric.name, "groups": groups, **tables}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _run(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "status": run.status,
        "error": run.error,
        "seed": run.seed,
        "choices": dict(run.choices),
        "overrides": dict(run.overrides),
        "metrics": {name: run.value(name) for name in run.metrics()},
        "command": run.environment.get("command"),
    }
