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

from tl_runner.cli import run as cli
from tl_runner.training.phase_loop import PhaseLoop

step = PhaseLoop._step
command: dict = {}
visits = 0


def signalled_step(self, *arguments):
    global visits
    visits += 1
    if visits == command.get("at") and os.environ["RANK"] == "1":
        if command["whom"] == "nobody":
            raise ArithmeticError("made up")
        os.kill(os.getpid() if command["whom"] == "itself" else os.getppid(), signal.SIGTERM)
        time.sleep(1)  # until torchrun has passed it on
    return step(self, *arguments)


PhaseLoop._step = signalled_step
for command in json.loads(Path(sys.argv[1]).read_text()):
    visits, code = 0, 1
    os.environ["MASTER_PORT"] = command.get("port", os.environ["MASTER_PORT"])
    try:
        cli.main(command["words"])
    except SystemExit as ended:
        code = ended.code
    except Exception:
        traceback.print_exc()
    print(f"exit {code}", file=sys.stderr, flush=True)
sys.exit(code)
