"""One job as Hydra starts it: find its folder, run it, say how it ended, and let the next one go
on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tl_runner.config.conflicts_of_teachers import used
from tl_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER, BusyError
from tl_runner.files import held
from tl_runner.training.interrupt import Interrupt


def alone(config: DictConfig, *, command: Sequence[str], fresh: bool) -> int:
    """The one job of a command: its exit code. ``fresh``: Hydra made the folder, and a run that
    cannot begin takes it back."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with held(folder):
        code, content, message = _run(config, command, resume=False, sweep=False, quiet=False)
    if content is None and fresh:
        clear(folder)
    if message:
        print(f"tl-run: {message}", file=sys.stderr)
    return code


def of_sweep(config: DictConfig, *, command: Sequence[str], parent: int) -> float | None:
    """One job of a sweep: its score. A failed job must not stop the others, so nothing but an
    interrupt is raised.

    A folder that a job has begun in goes on from its checkpoint: the sweep is being resumed, or a
    scheduler has started the job anew. ``parent`` is the process of the sweep; in another one the
    console is left to it.
    """
    hydra = HydraConfig.get()
    folder, quiet = Path(hydra.runtime.output_dir), os.getpid() != parent
    words = " ".join(hydra.overrides.task)
    print(f"{folder.name}  {words}" if quiet else f"\n{folder.name}  {words}", file=sys.stderr)
    try:
        with held(folder):
            code, content, message = _run(config, command, resume=True, sweep=True, quiet=quiet)
            if code == EXIT_USER:
                content = _refused(config, folder, message)
    except BusyError as error:  # a worker of an earlier attempt is still at it
        code, content, message = EXIT_FAILED, None, str(error)
    if message:
        print(
            f"tl-run: {folder.name}: {message}" if quiet else f"tl-run: {message}", file=sys.stderr
        )
    if code == EXIT_INTERRUPTED and not quiet:
        raise KeyboardInterrupt
    return content["score"] if content else None


def _run(
    config: DictConfig, command: Sequence[str], resume: bool, sweep: bool, quiet: bool
) -> tuple[int, dict[str, Any] | None, str]:
    """(exit code, result, message). Nothing is raised."""
    hydra = HydraConfig.get()
    try:
        with Interrupt() as interrupt:  # an import that is cut off leaves half a torch behind
            from tl_runner.jobs.run import guarded
        if interrupt.asked:
            raise KeyboardInterrupt
        place = Path(hydra.runtime.output_dir)
        return guarded(
            _plain(config),
            dict(hydra.runtime.choices),
            place,
            command,
            resume=resume,
            sweep=sweep,
            quiet=quiet,
        )
    except KeyboardInterrupt:  # before the run began, or a second one
        return EXIT_INTERRUPTED, None, "Stopped."


def _refused(config: DictConfig, folder: Path, message: str) -> dict[str, Any]:
    from tl_runner.jobs.run import record_failure

    return record_failure(
        folder, "failed", message, _plain(config), dict(HydraConfig.get().runtime.choices), 0.0
    )


def _plain(config: DictConfig) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(config, resolve=True)
    return used(content)


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
