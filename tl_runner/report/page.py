"""HTML page of everything: self-contained, no script, nothing fetched; opens from the disk."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from tl_runner.errors import human_list
from tl_runner.metrics.selection_rules import LABEL_FREE
from tl_runner.report import markup
from tl_runner.report.cells import number_text
from tl_runner.report.grid import Grid, lay_out, lay_out_paired, lay_out_rules
from tl_runner.report.metric import Metric
from tl_runner.report.plates import Plates
from tl_runner.report.reading import as_list, mapping
from tl_runner.report.remarks import constants, counts, shown_keys
from tl_runner.report.runs import STATUSES, Run
from tl_runner.report.selection_cost import regret_table, rule_table
from tl_runner.report.table import Comparison, Row, compare, metric_shown

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MOST_METHODS = 4  # whose every pair is tested; of more, each against the baseline
MOST_TESTS = 40


def page(rows: Sequence[Row], runs: Sequence[Run], tests: Sequence[Comparison] = ()) -> str:
    """The page of a table and the runs behind it; without ``tests``, those of the methods."""
    plates = Plates(rows)
    tests = tests or paired_methods(rows)
    candidates = [
        ("results", "Results", [results(rows)]),
        ("absent", "Not done", [absent(rows)]),
        ("tests", "Paired tests", [paired(tests, metric_shown(rows))]),
        ("inner", "Few-shot tasks", [plates.inner_steps()]),
        (
            "curves",
            "Learning curves",
            [plates.learning_curves(), folded("Training losses", plates.losses())],
        ),
        ("similarity", "Similarity and gain", [plates.similarity()]),
        ("regret", "Selection rules", [regret(rows)]),
        ("confusion", "Confusion matrices", [plates.confusions()]),
        ("roc", "ROC", [plates.rocs()]),
        ("reliability", "Calibration", [plates.reliabilities()]),
        ("embeddings", "Features", [plates.embeddings()]),
        ("runs", "Runs", [details(rows)]),
    ]
    sections = [
        (ident, title, "\n".join(content)) for ident, title, content in candidates if any(content)
    ]
    links = "".join(
        f'<li><a href="#{ident}">{markup.text(title)}</a></li>' for ident, title, _ in sections
    )
    body = "\n".join(markup.section(*each) for each in sections)
    name = markup.text(title_of(rows))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{name}</title>
<style>
{files("tl_runner.report").joinpath("page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<h1>{name}</h1>
<p class="lead">{markup.text(summary(rows, runs))}</p>
</header>
<nav aria-label="Contents"><ol>{links}</ol></nav>
{body}
<footer>Written by tl-report from the folders of these runs.</footer>
</main>
</body>
</html>
"""


def title_of(rows: Sequence[Row]) -> str:
    """Title of the page: ``source_only and adda on fonts2digits``."""

    def values(key: str, plural: str) -> str:
        names = list(dict.fromkeys(str(row.keys[key]) for row in rows))
        return f"{len(names)} {plural}" if len(names) > 4 else human_list(names)

    return f"{values('method', 'methods')} on {values('data', 'data sets')}"


def summary(rows: Sequence[Row], runs: Sequence[Run]) -> str:
    """Number of runs, how they ended, and what they have in common, in a sentence."""
    ended = counts(runs)
    states = ", ".join(f"{ended[status]} {status}" for status in STATUSES if status in ended)
    same = ", ".join(
        f"{key} {value}" for key, value in constants(rows).items() if key not in ("method", "data")
    )
    return (
        f"{len(runs)} run{'s' * (len(runs) != 1)}: {states}. {f'All with {same}.' if same else ''}"
    ).strip()


def results(rows: Sequence[Row]) -> str:
    """The table of groups, with a strip of the seeds."""
    grid = lay_out(rows, only_changed=True)
    place = grid.numeric.index(True) + 1
    notes = [note for note in grid.notes if not note.endswith("in all rows.")]
    wider = Grid(
        [*grid.columns[:place], "each seed", *grid.columns[place:]],
        [*grid.numeric[:place], False, *grid.numeric[place:]],
        [[*cells[:place], "", *cells[place:]] for cells in grid.body],
        grid.best,
        [
            *notes,
            "Each seed: a dot for each run, a tick at the mean, on one scale for all rows of a "
            "metric.",
        ],
    )
    return markup.table(
        wider, f"{metric_shown(rows).name} by group.", extra={place: markup.strips(rows)}
    )


def absent(rows: Sequence[Row]) -> str:
    """Every run that has no part in the means, with the head of its error."""
    keys = shown_keys(rows, only_changed=True)
    body = [
        [
            *(row.keys[k] or "–" for k in keys),
            "" if run.seed is None else str(run.seed),
            run.status,
            shortened(run, row.metric),
        ]
        for row in rows
        for run in row.absent
    ]
    if not body:
        return ""
    grid = Grid(
        [*keys, "seed", "status", "error"], [*(False for _ in keys), True, False, False], body
    )
    return markup.table(grid, "Runs that have no part in the means.", words=[len(grid.columns) - 1])


def shortened(run: Run, metric: Metric, most: int = 400) -> str:
    """The error, cut to a paragraph; the run's own entry has all of it."""
    error = run.error or (f"{metric.name} is not defined" if run.status == "done" else "")
    return error if len(error) <= most else error[:most].rstrip() + " …"


def paired_methods(rows: Sequence[Row]) -> list[Comparison]:
    """Every pair of a few methods; of many, each against source_only."""
    base = rows[0].against if rows else ""
    methods = list(dict.fromkeys(str(row.keys["method"]) for row in rows if row.n))
    pairs = [(b, a) for a, b in combinations(methods, 2)]
    if len(methods) > MOST_METHODS:
        pairs = [(method, base) for method in methods if base in methods and method != base]
    found = [test for a, b in pairs for test in compare(rows, a, b) if test.test.n > 1]
    return sorted(found, key=lambda test: str(test.keys.get("data")))[:MOST_TESTS]


def paired(tests: Sequence[Comparison], metric: Metric) -> str:
    """The paired tests."""
    return (
        markup.table(
            lay_out_paired(tests), f"Differences in {metric.name} of runs with the same seed."
        )
        if tests
        else ""
    )


def regret(rows: Sequence[Row]) -> str:
    """Table of what each selection rule would have cost."""
    found = regret_table(list(rows))
    if not found:
        return ""
    keys, accuracy = (
        shown_keys([row for row, _, _ in found], only_changed=True),
        Metric("target_test.accuracy", "accuracy"),
    )
    rules = [rule for rule in LABEL_FREE if any(rule in means for _, _, means in found)]
    body, best = [], set()
    for i, (row, n, means) in enumerate(found):
        lost = [number_text(accuracy, means.get(rule)) for rule in rules]
        body.append(
            [
                *(row.keys[k] or "–" for k in keys),
                str(n),
                number_text(accuracy, means["best"]),
                *lost,
            ]
        )
        least = min(means[rule] for rule in rules if rule in means)
        best |= {(i, len(keys) + 2 + j) for j, rule in enumerate(rules) if means.get(rule) == least}
    notes = [
        "Points of target test accuracy lost against the best epoch of the last phase (which only "
        "an oracle finds), mean over runs.",
        "Bold: least lost.",
    ]
    numeric = [*(False for _ in keys), *(True for _ in range(2 + len(rules)))]
    grid = Grid([*keys, "runs", "best epoch, %", *rules], numeric, body, frozenset(best), notes)
    together = markup.table(
        lay_out_rules(rule_table(rows)),
        "Mean regret of each selection rule over the runs of all groups.",
    )
    return markup.table(grid, "Regret of each selection rule in points.") + together


def folded(title: str, content: str) -> str:
    """Content behind a line to open it."""
    return (
        f'<details class="figures"><summary>{markup.text(title)}</summary>{content}</details>'
        if content
        else ""
    )


def details(rows: Sequence[Row]) -> str:
    """An entry for each run: what it was, how it ended, and all that is needed to run it again."""
    keys = list(dict.fromkeys(["method", "data", *shown_keys(rows, only_changed=True)]))
    return "\n".join(_run(row, run, keys) for row in rows for run in (*row.runs, *row.repeated))


def _run(row: Row, run: Run, keys: Sequence[str]) -> str:
    environment, metric, here = run.environment, row.metric, Path.cwd()
    git, device, packages = (
        mapping(environment.get(name)) for name in ("git", "device", "packages")
    )
    command = environment.get("command")
    typed = shlex.join(map(str, command)) if isinstance(command, list) else ""
    alone = shlex.join(["tl-run", *run.words]) if run.words else ""
    value = number_text(metric, run.value(metric.name))
    checksums = [
        f"{name} {str(digest)[:16]}…"
        for name, digest in mapping(environment.get("data_sha256")).items()
    ]
    commit = f"{git['sha']}{' with changes' if git.get('dirty') else ''}" if git.get("sha") else ""
    machine = [device.get("is"), device.get("precision"), environment.get("platform")]
    names = [
        str(row.keys[k]) if k in ("method", "data") else f"{k} {row.keys[k]}"
        for k in keys
        if row.keys[k]
    ]
    pairs = [
        ("score", f"{value} ({markup.text(metric.title)})" if value else ""),
        ("error", markup.code(run.error)),
        ("command", markup.code(alone)),
        ("typed", markup.code(typed) if typed != alone else ""),
        (
            "folder",
            markup.code(
                str(run.folder.relative_to(here) if here in run.folder.parents else run.folder)
            ),
        ),
        ("protocol", markup.text(run.result.get("protocol") or "")),
        (
            "selection",
            markup.text(run.result.get("selection") or "")
            + (", oracle: saw target labels" if row.oracle else ""),
        ),
        ("time", f"{run.result['wall_s']:,.0f} s" if run.value("wall_s") is not None else ""),
        ("commit", markup.code(commit)),
        ("device", markup.text(", ".join(str(part) for part in machine if part))),
        (
            "packages",
            markup.text(
                ", ".join(f"{name} {version}" for name, version in packages.items() if version)
            ),
        ),
        ("data, SHA-256", "<br>".join(map(markup.text, checksums))),
        ("warnings", "<br>".join(markup.text(w) for w in as_list(run.result.get("warnings")))),
        ("notes", "<br>".join(map(markup.text, _notes(run)))),
    ]
    seed = "" if run.seed is None else f", seed {run.seed}"
    head = (
        f'{markup.text(", ".join(names))}{seed} <span class="status '
        f'{run.status}">{run.status}{f", {value}" if value else ""}</span>'
    )
    return f'<details class="run"><summary>{head}</summary>{markup.entries(pairs)}</details>'


def _notes(run: Run) -> list[str]:
    splits = mapping(run.result.get("notes"))
    return [
        f"{split}.{name}: {note}"
        for split, notes in splits.items()
        for name, note in mapping(notes).items()
    ]
