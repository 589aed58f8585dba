"""``tl-report --list``: every run, the newest first."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from tl_runner.report.cells import number_text
from tl_runner.report.grid import Grid
from tl_runner.report.metric import Metric
from tl_runner.report.runs import Run

HEAD = ("score", "run", "status", "age", "folder")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def lay_out_list(runs: Sequence[Run], now: float | None = None) -> Grid:
    """A line for each run: its score with the metric, what it is, how it stands, how old it is."""
    now = time.time() if now is None else now
    ordered = sorted(runs, key=began, reverse=True)
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    several = {kind: varied(own) for kind, own in kinds.items()}
    body = [
        [
            _score(run),
            label(run, several[_kind(run)]),
            state(run),
            _age(now - began(run)),
            _folder(run),
        ]
        for run in ordered
    ]
    return Grid([*HEAD], [True, False, False, True, False], body)


def began(run: Run) -> float:
    """When a run began, seconds; 0 where it never did."""
    files = (run.folder / name for name in (".hydra", "config.yaml", "run.log", "result.json"))
    return min((f.stat().st_mtime for f in files if f.exists()), default=0.0)


def _kind(run: Run) -> tuple[str, str]:
    return str(run.choices["method"]), str(run.choices["data"])


def varied(runs: Sequence[Run]) -> set[str]:
    """The keys that commands of some runs set otherwise than others; the backbone among them."""
    keys = {key for run in runs for key in run.overrides} - {"seed"}
    found = {key for key in keys if len({run.overrides.get(key) for run in runs}) > 1}
    return found | ({"backbone"} if len({run.choices["backbone"] for run in runs}) > 1 else set())


def label(run: Run, keys: Collection[str]) -> str:
    """A run in a few words: method, data, those of some keys that its command set, seed."""
    others = [
        f"{key.rpartition('.')[2]} {Path(value).name if '/' in value else value}"
        for key, value in run.overrides.items()
        if key in keys
    ]
    network = [run.choices["backbone"]] if "backbone" in keys else []
    seed = [] if run.seed is None else [f"seed {run.seed}"]
    return ", ".join([" ".join(_kind(run)), *network, *others, *seed])


def state(run: Run) -> str:
    """How a run stands; of one under way how far it is."""
    if run.status != "running" or not run.epochs:
        return run.status
    at = run.epochs[-1]
    return f"running, {at.get('phase')} {at.get('epoch')}"


def _score(run: Run) -> str:
    name = run.result.get("metric")
    if not isinstance(name, str):
        return ""
    metric = Metric(name if "." in name else "score", name.rpartition(".")[2])
    value = run.value("score")
    return "" if value is None else number_text(metric, value)


def _age(seconds: float) -> str:
    return next((f"{seconds / size:.0f} {unit}" for size, unit in UNITS if seconds >= size), "now")


def _folder(run: Run) -> str:
    here = Path.cwd()
    folder = run.folder.resolve()
    return str(folder.relative_to(here) if here in folder.parents else folder)
