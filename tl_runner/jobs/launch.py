"""Hand checked jobs to Hydra, which makes their folders and its own record: one in this process,
several to a launcher."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, configure_log, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from tl_runner.config.compose import Job, Plan
from tl_runner.config.loader import composer
from tl_runner.errors import UserError
from tl_runner.jobs.hydra_job import alone, of_sweep
from tl_runner.jobs.sweep_file import left
from tl_runner.record.run_folder import state


def launch_one(job: Job, config_dir: str | None, *, fresh: bool) -> int:
    """The exit code of a single run, whose config is the very object that was checked.

    The steps are those of Hydra's own ``Hydra.run`` after it has composed.

    Args:
        job: with ``hydra``.
        config_dir: the user's own configs.
        fresh: Hydra makes the folder, and a run that cannot begin takes it back.

    Raises:
        OSError: the folder cannot be made.
    """

    def task(config: DictConfig) -> int:
        return alone(job, fresh=fresh)

    config = job.hydra
    assert config is not None
    with composer(config_dir) as hydra:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        callbacks = Callbacks(config)
        callbacks.on_run_start(config=config, config_name="config")
        ended = run_job(
            task_function=task,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        )
        callbacks.on_run_end(config=config, config_name="config", job_return=ended)
        code: int = ended.return_value
        return code


def launch(plan: Plan, folder: Path, jobs: Sequence[Job]) -> None:
    """Give the jobs that are not done to Hydra's launcher, and wait for them."""
    todo = left(jobs, folder)
    if not todo:
        return
    with composer(plan.config_dir) as hydra:
        config = copy.deepcopy(plan.whole)
        assert config is not None
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.sweep.dir = str(folder).replace("${", r"\${")
        OmegaConf.save(config, folder / "multirun.yaml")
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        task = partial(of_sweep, jobs=by_name(todo), parent=os.getpid())
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
        try:
            ends = launcher.launch([_overrides(j, folder) for j in todo], initial_job_idx=0)
            problems = [
                f"{j.name}: {e._return_value!r}"
                for j, e in zip(todo, ends, strict=True)
                if e.status is JobStatus.FAILED
            ]
        # a worker died or a queue said no: the folders tell which jobs are left
        except Exception as error:
            problems = [f"the launcher gave up: {type(error).__name__}: {error}"]
            if all(state(folder / j.name) == "missing" for j in todo):
                raise UserError(problems[0]) from error
        for problem in problems:
            print(f"tl-run: {problem}", file=sys.stderr)


def by_name(jobs: Sequence[Job]) -> dict[str, Job]:
    """Jobs for a worker, by name; sections that several have in common are one object, so that
    sending them to each of many workers stays cheap."""
    sections: dict[str, Any] = {}

    def common(section: Mapping[str, Any]) -> dict[str, Any]:
        own = {k: common(v) if isinstance(v, Mapping) else v for k, v in section.items()}
        found: dict[str, Any] = sections.setdefault(json.dumps(own, default=str), own)
        return found

    return {job.name: replace(job, config=common(job.config)) for job in jobs}


def _overrides(job: Job, folder: Path) -> list[str]:
    """A job's own overrides, and where it goes; Hydra's record of it is written once."""
    place = [f"hydra.sweep.dir={_quoted(str(folder))}", f"hydra.sweep.subdir={_quoted(job.name)}"]
    if (folder / job.name / ".hydra" / "overrides.yaml").exists():
        place.append("hydra.output_subdir=null")
    return [*job.overrides, *place]


def _quoted(text: str) -> str:
    """For Hydra's grammar, where a backslash before a quote and OmegaConf's ``${`` are more than
    themselves."""
    escaped = re.sub(
        r"(\\*)('|$)",
        lambda found: 2 * found[1] + ("\\'" if found[2] else ""),
        text.replace("${", r"\${"),
    )
    return f"'{escaped}'"
