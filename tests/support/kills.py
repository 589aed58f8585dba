"""Commands that are killed or interrupted at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from support.runs import TINY

DRIVER = Path(__file__).with_name("kill_driver.py")
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
    words = (*SETTINGS, *more, f"hydra.run.dir={folder}")
    command = [sys.executable, str(DRIVER), place, str(number), *words]
    # the same number of threads as this process: sums of floats depend on it
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(
        command, cwd=folder.parent, env=env, capture_output=True, timeout=300
    ).returncode


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
    command = [sys.executable, str(DRIVER), place, str(number), *words, f"hydra.sweep.dir={folder}"]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    ended = subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, timeout=600)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
