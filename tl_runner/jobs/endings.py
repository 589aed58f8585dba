"""How a run ends: exit codes, one line for the user, and the record of a run that failed."""

from __future__ import annotations

import errno
import time
from typing import Any

import torch

from tl_runner.config.compose import Job
from tl_runner.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USER,
    DivergedError,
    LostError,
    UserError,
)
from tl_runner.jobs.run import run
from tl_runner.jobs.run_log import write_traceback
from tl_runner.record.console import log
from tl_runner.record.run_folder import RunFolder, named_choices
from tl_runner.training.interrupt import Interrupted


def guarded(job: Job) -> tuple[int, dict[str, Any] | None, str]:
    """:func:`run` with every ending told apart: (exit code, result, message). A failure leaves a
    result that says so."""
    started, path = time.perf_counter(), job.folder
    try:
        return EXIT_DONE, run(job), ""
    except UserError as error:
        return EXIT_USER, None, str(error)
    except (Interrupted, KeyboardInterrupt) as error:
        if not (path / "checkpoints" / "last.pt").exists():
            message = "Stopped before the first checkpoint; there is nothing to resume."
            return EXIT_INTERRUPTED, None, message
        message = (
            f"A checkpoint was written. Go on with: tl-run resume={path}"
            if isinstance(error, Interrupted)
            else f"Stopped at once. The last checkpoint stands: tl-run resume={path}"
        )
        return EXIT_INTERRUPTED, record_failure(job, "interrupted", "", started), message
    except Exception as error:
        message = explain(error, job)
        write_traceback(path)
        return EXIT_FAILED, record_failure(job, "failed", message, started), message


def follow(job: Job) -> int:
    """:func:`run` on a rank other than 0: the exit code of an ending that rank 0 records and speaks
    of."""
    try:
        run(job)
    except UserError:
        return EXIT_USER
    except Interrupted:
        return EXIT_INTERRUPTED
    except (DivergedError, LostError):
        return EXIT_FAILED
    return EXIT_DONE


def explain(error: Exception, job: Job) -> str:
    """One line for the user."""
    path, config = job.folder, job.config
    if isinstance(error, (DivergedError, LostError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"The disk is full: {error}. Free some space, then: tl-run resume={path}"
    if isinstance(error, torch.OutOfMemoryError):
        smaller = "train.batch_size"
        if "meta" in config["method"]:
            smaller = (
                "method.meta.batch_size, method.task_batching=loop"
                if "task_batching" in config["method"]
                else "data.training.ways"
            )
        return f"Out of memory: {error}. Try a smaller {smaller}, or device.precision=bf16."
    return f"{type(error).__name__}: {error} (traceback in {path / 'run.log'})"


def record_failure(
    job: Job, status: str, message: str, started: float | None = None
) -> dict[str, Any]:
    """``result.json`` of a run that did not get to its end, as far as the disk allows."""
    began = time.perf_counter() if started is None else started
    content = {
        "status": status,
        "error": message,
        "score": None,
        "metric": None,
        "uses_target_labels": None,
        "protocol": None,
        "metrics": {},
        "seed": job.config["seed"],
        "selection": job.config["selection"],
        "choices": named_choices(job.choices),
        "wall_s": round(time.perf_counter() - began, 3),
    }
    try:
        RunFolder(job.folder).json("result.json", content)
    except OSError as error:
        log.error(f"result.json could not be written: {error}")
    return content
