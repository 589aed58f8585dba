"""``last``: the run or sweep that began last, and the run that was done last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tl_runner.errors import UserError
from tl_runner.report.reading import mapping, read_json

WORD = "last"
ROOT = Path("outputs")


def named(path: str | Path, done: bool = False) -> Path:
    """The folder that a command names: ``last`` stands for one under ``outputs``, unless there is a
    folder of that name.

    Args:
        done: the finished run is meant that ended last, and not the run or sweep that began last.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if str(path) != WORD or path.exists():
        return path
    found = sorted(_done() if done else _begun(ROOT))
    if not found:
        what = "finished run" if done else "run or sweep"
        raise UserError(f"last: there is no {what} under {ROOT.resolve()}. Name a folder.")
    return found[-1][1]


def _begun(root: Path) -> Iterator[tuple[float, Path]]:
    """(when it began, folder) of every run and sweep; a sweep's jobs are its own."""
    for folder, below, files in os.walk(root):
        here = Path(folder)
        if "sweep.json" in files or ".hydra" in below or "result.json" in files:
            below.clear()
            first = [here / name for name in (".hydra", "multirun.yaml", "config.yaml")]
            yield min((f.stat().st_mtime for f in first if f.exists()), default=0.0), here


def _done() -> Iterator[tuple[float, Path]]:
    """(when it ended, folder) of every finished run, those of sweeps among them."""
    for folder, below, files in os.walk(ROOT):
        here = Path(folder)
        if "result.json" in files:
            below.clear()
            file = here / "result.json"
            if mapping(read_json(file)).get("status") == "done":
                yield file.stat().st_mtime, here
