"""A sweep: the list of its jobs, what has become of each, and a Hydra launcher to run those that
are not done.

``sweep.json`` in the sweep's folder names every job before the first one starts. What has become of
a job is read from its own folder, so it does not matter which process ran it, or whether that
process lived to tell.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from tl_runner.config.compose import Job, Plan, composer
from tl_runner.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CheckpointError, UserError
from tl_runner.files import held, write_atomic
from tl_runner.jobs import hydra_job as job
from tl_runner.record.run_folder import named_choices, state

FILE = "sweep.json"


def run(plan: Plan, typed: Sequence[str]) -> int:
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
            return _run(plan, folder, typed)
        finally:
            with suppress(OSError):  # of a sweep that could not begin; any other holds something
                folder.rmdir()


def _run(plan: Plan, folder: Path, typed: Sequence[str]) -> int:
    done = len(plan.jobs) - len(left(plan.jobs, folder))
    if done and not plan.space:
        print(f"{done} of {len(plan.jobs)} runs are done already.", file=sys.stderr)
    try:
        if plan.space:
            from tl_runner.jobs import search

            jobs = search.run(plan, folder, typed)
        else:
            jobs = plan.jobs
            if (folder / FILE).exists():
                unchanged(folder, jobs)
            record(plan, folder, jobs, typed)
            launch(plan, folder, jobs, typed)
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


def record(plan: Plan, folder: Path, jobs: Sequence[Job], typed: Sequence[str]) -> None:
    """Write ``sweep.json``: the command and every job known so far."""
    content = {
        "command": list(typed),
        "overrides": plan.overrides,
        "config_dir": plan.config_dir,
        "jobs": [
            {
                "folder": j.name,
                "overrides": j.overrides,
                "choices": named_choices(j.choices),
                "seed": j.config["seed"],
            }
            for j in jobs
        ],
    }
    if not (folder / FILE).exists() or recorded(folder)["jobs"] != content["jobs"]:
        write_atomic(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def unchanged(folder: Path, jobs: Sequence[Job]) -> None:
    """Whether the command still comes to the jobs that it came to when the sweep began.

    Raises:
        CheckpointError: a config file of the user's has changed.
    """
    before = [(job.get("folder"), job.get("overrides")) for job in recorded(folder)["jobs"]]
    now = [(job.name, job.overrides) for job in jobs]
    if before != now:
        other = next(
            (n for b, n in zip(before, now, strict=False) if b != n),
            (f"{len(now)} jobs instead of {len(before)}", []),
        )
        raise CheckpointError(
            f"The command of {folder} does not come to the same jobs any more ({other[0]} "
            f"{' '.join(other[1])}).\n"
            "  A preset or the folders' names have changed since. Put them back, or start a new "
            "sweep."
        )


def left(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Those that are not done."""
    return [j for j in jobs if state(folder / j.name) != "done"]


def recorded(folder: Path) -> dict[str, Any]:
    """What ``sweep.json`` says.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if not (
            all(isinstance(o, str) for o in content["overrides"])
            and isinstance(content["jobs"], list)
        ):
            raise ValueError("not a list of overrides")
        return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / FILE} is damaged ({type(error).__name__}: {error}). Start the sweep afresh."
        ) from error


def launch(plan: Plan, folder: Path, jobs: Sequence[Job], typed: Sequence[str]) -> None:
    """Give the jobs that are not done to Hydra's launcher, and wait for them."""
    todo = left(jobs, folder)
    if not todo:
        return
    with composer(plan.config_dir) as hydra:
        config = hydra.compose_config("config", plan.whole, RunMode.MULTIRUN)
        config.hydra.sweep.dir = str(folder).replace("${", r"\${")
        OmegaConf.save(config, folder / "multirun.yaml")
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        task = partial(job.of_sweep, command=list(typed), parent=os.getpid())
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
        except (
            Exception
        ) as error:  # a worker died or a queue said no; the folders tell which jobs are left
            problems = [f"the launcher gave up: {type(error).__name__}: {error}"]
            if all(state(folder / j.name) == "missing" for j in todo):
                raise UserError(problems[0]) from error
        for problem in problems:
            print(f"tl-run: {problem}", file=sys.stderr)


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
