"""``sweep.json``: every job of a sweep, named before the first one starts.

What has become of a job is read from its own folder, so it does not matter which process ran it, or
whether that process lived to tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_runner.config.compose import Job, Plan
from tl_runner.errors import CheckpointError
from tl_runner.files import write_atomic
from tl_runner.record.run_folder import named_choices, state

FILE = "sweep.json"


def record(plan: Plan, folder: Path, jobs: Sequence[Job]) -> None:
    """Write ``sweep.json``: the command and every job known so far."""
    content = {
        "command": list(plan.command),
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
