"""``python kill_driver.py PLACE N words...``: tl-run that sends itself SIGKILL at the N-th visit of
a place.

Places: ``step`` (before a training step), ``evaluation`` (in the middle of predictions),
``checkpoint`` (half of the file written), ``renamed`` (right after the file got its name). It is
run by support/kills.py.
"""

from __future__ import annotations

import os
import signal
import sys

place, number, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
visits = 0


def visit() -> bool:
    global visits
    visits += 1
    return visits == number


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


from tl_runner.training import checkpoints  # noqa: E402
from tl_runner.training import evaluator as evaluation  # noqa: E402
from tl_runner.training.phase_loop import PhaseLoop  # noqa: E402

if place == "step":
    step = PhaseLoop._step

    def killed_step(self, *arguments):
        if visit():
            die()
        return step(self, *arguments)

    PhaseLoop._step = killed_step
elif place == "evaluation":
    outputs_of = evaluation.outputs_of

    def killed_logits(method, predict, split, device):
        def killed_predict(x):
            if visit():
                die()
            return predict(x)

        return outputs_of(method, killed_predict, split, device)

    evaluation.outputs_of = killed_logits
else:
    write = checkpoints.write_atomic

    def killed_write(path, content):
        if path.suffix == ".pt" and visit():
            if place == "checkpoint":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(path.name + ".tmp").write_bytes(bytes(content)[: len(content) // 2])
            else:
                write(path, content)
            die()
        write(path, content)

    checkpoints.write_atomic = killed_write

from tl_runner.cli import run as cli  # noqa: E402

cli.main(words)
