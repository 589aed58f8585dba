"""tl-run: transfer-learning experiments in PyTorch from one command line."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "runs"]


def __getattr__(name: str) -> Any:
    """``load`` and ``runs``, imported when they are asked for: the commands answer at once."""
    if name in ("load", "runs"):
        from tl_runner.report import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
