"""Training loops as one would write them by hand for one method each: no configuration, metrics,
counters or seeding per step.

``bench_loop.py`` measures the runner's loop against them, and a test compares a step of both. A
loop is optional: it is a file named as its method's YAML in ``conf/method``, with a function
``bare(ground)`` that makes the optimisers and returns the step; nothing lists it. Where only some
settings of the method make the loop the same work, the file names them in ``OVERRIDES``. Batch norm
normalises each domain by itself (``backbone.bn=separate``), in a forward pass each. Files that
begin with an underscore are parts.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bare._loop import Bare, Ground


def names() -> list[str]:
    """Methods that have a bare loop, in alphabetical order."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str, ground: Ground) -> Bare:
    """The bare loop of a method, made on its networks.

    Raises:
        ModuleNotFoundError: there is no ``scripts/bare/<name>.py``.
    """
    return import_module(f"bare.{name}").bare(ground)


def overrides(name: str) -> tuple[str, ...]:
    """Settings with which the runner does the work of a method's bare loop; mostly none."""
    return getattr(import_module(f"bare.{name}"), "OVERRIDES", ())
