"""Signals that end a run between two steps, after a checkpoint: Ctrl-C's and a scheduler's."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop and has written its checkpoint (exit code 130)."""


def ignore_termination() -> None:
    """Let SIGTERM do nothing from here on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Interrupt:
    """While entered, the first SIGINT or SIGTERM sets ``asked``; the next does what it always did.

    SIGUSR1 and SIGUSR2 count as well where somebody handles them, as submitit does when a job's
    time is nearly up. They are handed on at the end, when the checkpoint is written: submitit then
    puts the job back into the queue.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}
        self._handed_on: int | None = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be set
            warned = [
                s
                for name in ("SIGUSR1", "SIGUSR2")
                if (s := getattr(signal, name, None)) and callable(signal.getsignal(s))
            ]
            self._before = {
                s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM, *warned)
            }
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self._handed_on is not None:
            signal.raise_signal(self._handed_on)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number not in (signal.SIGINT, signal.SIGTERM):
            self._handed_on = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
