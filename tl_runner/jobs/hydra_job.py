"""One job inside the folder that Hydra made for it: run it, say how it ended, and let the next one
go on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tl_runner.config.compose import Job
from tl_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER, BusyError
from tl_runner.files import held
from tl_runner.training.interrupt import Interrupt


def alone(job: Job, *, fresh: bool) -> int:
    """The one job of a command: its exit code. ``fresh``: Hydra made the folder, and a run that
    cannot begin takes it back."""
    job = replace(job, folder=Path(HydraConfig.get().runtime.output_dir))
    with held(job.folder):
        code, content, message = _ended(job)
    if content is None and fresh:
        clear(job.folder)
    if message:
        print(f"tl-run: {message}", file=sys.stderr)
    return code


def of_sweep(composed: DictConfig, *, jobs: Mapping[str, Job], parent: int) -> float | None:
    """One job of a sweep: its score. A failed job must not stop the others, so nothing but an
    interrupt is raised.

    A folder that a job has begun in goes on from its checkpoint: the sweep is being resumed, or a
    scheduler has started the job anew.

    Args:
        composed: what the launcher composed, for Hydra's record; what runs was checked before.
        jobs: those of the sweep, by name.
        parent: the process of the sweep; in another one the console is left to it.
    """
    hydra = HydraConfig.get()
    quiet = os.getpid() != parent
    job = replace(
        jobs[hydra.sweep.subdir], folder=Path(hydra.runtime.output_dir), resume=True, quiet=quiet
    )
    name, words = job.folder.name, " ".join(hydra.overrides.task)
    print(f"{name}  {words}" if quiet else f"\n{name}  {words}", file=sys.stderr)
    try:
        with held(job.folder):
            code, content, message = _ended(job)
            if code == EXIT_USER:
                content = _refused(job, message)
    except BusyError as error:  # a worker of an earlier attempt is still at it
        code, content, message = EXIT_FAILED, None, str(error)
    if message:
        print(f"tl-run: {name}: {message}" if quiet else f"tl-run: {message}", file=sys.stderr)
    if code == EXIT_INTERRUPTED and not quiet:
        raise KeyboardInterrupt
    return content["score"] if content else None


def _ended(job: Job) -> tuple[int, dict[str, Any] | None, str]:
    """(exit code, result, message). Nothing is raised."""
    try:
        with Interrupt() as interrupt:  # an import that is cut off leaves half a torch behind
            from tl_runner.jobs.endings import guarded
        if interrupt.requested:
            raise KeyboardInterrupt
        return guarded(job)
    except KeyboardInterrupt:  # before the run began, or a second one
        return EXIT_INTERRUPTED, None, "Stopped."


def _refused(job: Job, message: str) -> dict[str, Any]:
    from tl_runner.jobs.endings import record_failure

    return record_failure(job, "failed", message)


def clear(folder: Path) -> None:
    """Take back the folder that Hydra made for a run that could not begin; whatever else there is
    stays."""
    if {p.name for p in folder.iterdir()} - {".hydra"}:
        return
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    outputs = Path.cwd() / "outputs"
    for empty in (folder, *(p for p in folder.parents if p.is_relative_to(outputs))):
        try:
            empty.rmdir()
        except OSError:  # not empty: another run's
            return
