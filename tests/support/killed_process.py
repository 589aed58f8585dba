"""tl-run in a process that sends itself SIGKILL at the N-th visit of a place.

Places: ``step`` (before a training step), ``evaluation`` (in the middle of predictions),
``checkpoint`` (half of the file written), ``renamed`` (right after the file got its name).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from tl_runner.cli import run as cli
from tl_runner.training import checkpoints
from tl_runner.training import evaluator as evaluation
from tl_runner.training.phase_loop import PhaseLoop


def run(
    place: str,
    number: int,
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    threads: int,
) -> None:
    """The command, in ``folder``; what it prints is lost."""
    visits = 0

    def visit() -> bool:
        nonlocal visits
        visits += 1
        return visits == number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    step, outputs_of, write = PhaseLoop._step, evaluation.outputs_of, checkpoints.write_atomic

    def killed_step(self, *arguments):
        if visit():
            die()
        return step(self, *arguments)

    def killed_logits(method, predict, split, device):
        def killed_predict(x):
            if visit():
                die()
            return predict(x)

        return outputs_of(method, killed_predict, split, device)

    def killed_write(path, content):
        if path.suffix == ".pt" and visit():
            if place == "checkpoint":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(path.name + ".tmp").write_bytes(bytes(content)[: len(content) // 2])
            else:
                write(path, content)
            die()
        write(path, content)

    if place == "step":
        PhaseLoop._step = killed_step
    elif place == "evaluation":
        evaluation.outputs_of = killed_logits
    elif place in ("checkpoint", "renamed"):
        checkpoints.write_atomic = killed_write
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(threads)
    sys.argv = ["tl-run"]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        cli.main(words)
