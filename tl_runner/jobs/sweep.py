"""A sweep, or a search: run what is not done of it, and print its table."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from tl_runner.config.compose import Plan
from tl_runner.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, UserError
from tl_runner.files import held
from tl_runner.jobs.launch import launch
from tl_runner.jobs.search import run_search
from tl_runner.jobs.sweep_file import FILE, left, record, unchanged
from tl_runner.record.run_folder import state


def run_sweep(plan: Plan) -> int:
    """Run what is not done of a sweep, and print its table. The exit code."""
    folder = plan.folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The sweep's folder cannot be made: {error}. Choose another with hydra.sweep.dir=PATH."
        ) from error
    with held(folder):
        try:
            return _finish(plan, folder)
        finally:
            with suppress(OSError):  # of a sweep that could not begin; any other holds something
                folder.rmdir()


def _finish(plan: Plan, folder: Path) -> int:
    """Run what is missing: the exit code."""
    done = len(plan.jobs) - len(left(plan.jobs, folder))
    if done and not plan.space:
        print(f"{done} of {len(plan.jobs)} runs are done already.", file=sys.stderr)
    try:
        if plan.space:
            jobs = run_search(plan, folder)
        else:
            jobs = plan.jobs
            if (folder / FILE).exists():
                unchanged(folder, jobs)
            record(plan, folder, jobs)
            launch(plan, folder, jobs)
        stopped = False
    except KeyboardInterrupt:
        jobs, stopped = plan.jobs, True
    states = [state(folder / job.name) for job in jobs]
    if (folder / FILE).exists():
        print(f"\n{closing(folder, plan.search.get('objective'))} folder {folder}")
    if stopped or "interrupted" in states:
        print(
            f"tl-run: stopped. Finish what is missing with: tl-run resume={folder}", file=sys.stderr
        )
        return EXIT_INTERRUPTED
    return EXIT_DONE if set(states) == {"done"} else EXIT_FAILED


def closing(folder: Path, metric: str | None) -> str:
    """The sweep's table, as tl-report prints it; of a search, of what it went by."""
    from tl_runner.report import formats, runs, table

    found = runs.collect([folder])
    try:
        return formats.terminal(table.rows(found, metric))
    except UserError:  # no run got far enough to have it
        return formats.terminal(table.rows(found))
