"""Covers of long lists: which cases always run, and which wait for ``-m slow``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest


def cases(every: Iterable[Any], always: Collection[Any]) -> list[Any]:
    """All cases of a parameter; those that are not in ``always`` are slow."""
    every = list(every)
    assert all(case in every for case in always), "one of them is not there any more"
    return [c if c in always else pytest.param(c, marks=pytest.mark.slow) for c in every]


def pairs(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """All pairs; each value of either list is in one that always runs, the other pairs are slow."""
    found = []
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            slow = [] if i % len(second) == j % len(second) else [pytest.mark.slow]
            found.append(pytest.param(a, b, marks=slow))
    return found
