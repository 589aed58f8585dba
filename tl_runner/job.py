"""One job as Hydra starts it: find its folder, run it, say how it ended, and let the next one go on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tl_runner.errors import EXIT_INTERRUPTED, EXIT_USER
from tl_runner.training.interrupt import Interrupt


def run(config: DictConfig, hydra: DictConfig, command: Sequence[str], sweep: bool, fresh: bool) -> tuple[int, float | None]:
    """(exit code, score). Nothing is raised: a failed job must not stop a sweep. ``fresh``: Hydra made the folder."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    choices = dict(hydra.runtime.choices)
    folder = Path(hydra.runtime.output_dir)
    if sweep:
        print(f"\n#{hydra.job.num}  {' '.join(hydra.overrides.task)}", file=sys.stderr)
    try:
        with Interrupt() as interrupt:  # an import that is cut off leaves half a torch behind
            from tl_runner.run import guarded, record_failure
        if interrupt.asked:
            raise KeyboardInterrupt
        code, content, message = guarded(plain, choices, folder, command, resume=False)
        if code == EXIT_USER and sweep:
            content = record_failure(folder, "failed", message, plain, choices, 0.0)
    except KeyboardInterrupt:  # before the run began, or a second one
        code, content, message = EXIT_INTERRUPTED, None, "Stopped."
    if content is None and fresh:
        clear(folder)
    if message:
        print(f"tl-run: {message}", file=sys.stderr)
    return code, content["score"] if content else None


def clear(folder: Path) -> None:
    """Take back the folder that Hydra made for a run that could not begin; whatever else there is stays."""
    if {p.name for p in folder.iterdir()} - {".hydra"}:
        return
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    outputs = Path.cwd() / "outputs"
    for empty in (folder, *(p for p in folder.parents if p.is_relative_to(outputs))):
        try:
            empty.rmdir()
        except OSError:  # not empty: another run's
            return
