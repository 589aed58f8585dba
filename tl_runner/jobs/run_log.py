"""The log of a run that went wrong."""

from __future__ import annotations

import traceback
from pathlib import Path


def write_traceback(path: Path) -> None:
    """The traceback, at the end of ``run.log``."""
    try:
        with open(path / "run.log", "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    except OSError:
        traceback.print_exc()
