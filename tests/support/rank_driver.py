"""``python rank_driver.py COMMANDS.json``: tl-run, one command after another, in a process with a
rank.

A command is ``{"words": [...], "port": ..., "at": n, "whom": ...}``: at training step ``n`` rank 1
sends SIGTERM to ``itself`` or to its parent, ``torchrun``, or fails (``nobody``); ``port`` replaces
MASTER_PORT. What each says ends with a line ``exit CODE``.
It is run by promises/test_ranks.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from tl_runner.cli import run as cli
from tl_runner.training.phase_loop import PhaseLoop


def run(script: Path) -> int:
    """The commands of a file; the exit code of the last one."""
    step, command, visits, code = PhaseLoop._step, {}, 0, 1

    def signalled_step(self, *arguments):
        nonlocal visits
        visits += 1
        if visits == command.get("at") and os.environ["RANK"] == "1":
            if command["whom"] == "nobody":
                raise ArithmeticError("made up")
            os.kill(os.getpid() if command["whom"] == "itself" else os.getppid(), signal.SIGTERM)
            time.sleep(1)  # until torchrun has passed it on
        return step(self, *arguments)

    PhaseLoop._step = signalled_step
    for command in json.loads(script.read_text()):
        visits, code = 0, 1
        os.environ["MASTER_PORT"] = command.get("port", os.environ["MASTER_PORT"])
        try:
            cli.main(command["words"])
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:
            traceback.print_exc()
        print(f"exit {code}", file=sys.stderr, flush=True)
    return code


def forked(script: Path, environment: dict[str, str], threads: int) -> None:
    """The same in a process that was forked: in the script's folder, with an environment, what it
    prints in ``out`` and ``err`` of its rank there."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(script.parent)
    sys.argv = ["tl-run"]
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(f"{name}{environment['RANK']}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, stream)
    torch.set_num_threads(threads)
    run(script)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
