"""Commands that are killed or interrupted at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import torch

from support import killed_process
from support.runs import TINY

# Processes that have imported what takes seconds. Only what is installed is found before the fork.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "tl_runner.cli.run",
        "tl_runner.jobs.run",
        "tl_runner.training.trainer",
        "sklearn.linear_model",
        "sklearn.metrics",
    ]
)
SETTINGS = (
    *TINY,
    "method=adda",
    "backbone.dropout=0.3",
    "method.adapt.gate=0.4",
    "method.adapt.gate_window=3",
    "seed=7",
)


def drive(place: str, number: int, folder: Path, *more: str) -> int:
    """Exit code of a run into ``folder`` that kills itself at the N-th visit of a place."""
    return _exit_code(place, number, folder, *SETTINGS, *more, f"hydra.run.dir={folder}")


def _exit_code(place: str, number: int, folder: Path, *words: str) -> int:
    # the same number of threads as this process: sums of floats depend on it
    given = (place, number, list(words), folder.parent, dict(os.environ), torch.get_num_threads())
    process = PROCESSES.Process(target=killed_process.run, args=given)
    process.start()
    process.join(600)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def interrupted(tl_run, monkeypatch, after: int, *words: str):
    """The command, sent SIGINT before its ``after``-th step."""
    from tl_runner.training.phase_loop import PhaseLoop

    step, seen = PhaseLoop._step, []

    def counted(self, *arguments):
        seen.append(1)
        if len(seen) == after:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PhaseLoop, "_step", counted)
        return tl_run(*words)


def killed(place: str, number: int, folder: Path, *words: str) -> None:
    """A sweep into ``folder`` whose process kills itself at the N-th visit of a place."""
    code = _exit_code(place, number, folder, *words, f"hydra.sweep.dir={folder}")
    assert code == -signal.SIGKILL
