"""What torchrun tells each process that it starts, by environment variables. No torch here."""

from __future__ import annotations

import os


def world() -> int:
    """How many processes share the run; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """This process's number among them; 0 leads: it alone writes and speaks."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def local_rank() -> int:
    """This process's number on its machine, and so that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world() > 1 else 0
