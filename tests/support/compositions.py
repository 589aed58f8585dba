"""Compositions of the shipped configs, kept for the tests of one process.

A command composes each combination of its choices once; a process of tests has hundreds of commands
and few combinations. What Hydra makes of one is the same each time but for the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import open_dict

from tl_runner.config.bases import Base, Bases
from tl_runner.config.paths import CONF_DIR

OF_HYDRA = ("pkg://", "structured://")
kept: dict[object, Base] = {}
compose = Bases.of


def of(self: Bases, choices: Sequence[str]) -> Base:
    """In the place of ``Bases.of``: the same, from what was composed before."""
    paths = [place.path for place in self.loader.get_search_path().get_path()]
    own = [path for path in paths if not str(path).startswith(OF_HYDRA)]
    if own != [str(CONF_DIR)] or any("hydra.searchpath" in choice for choice in choices):
        return compose(self, choices)
    key = tuple(choices)
    if key not in kept:
        kept[key] = compose(self, choices)
    elif key not in self._made:
        base = self._made[key] = replace(kept[key])  # without what it resolved elsewhere
        with open_dict(base.config):
            base.config.hydra.runtime.cwd = os.getcwd()
    return self._made.setdefault(key, kept[key])
