"""Every shipped method, data set and backbone, composed once for all tests of this folder."""

from __future__ import annotations

import pytest

from tl_runner.config.bases import Base, Bases
from tl_runner.config.loader import composer
from tl_runner.config.paths import CONF_DIR


def _every(group: str) -> dict[str, Base]:
    names = sorted(file.stem for file in (CONF_DIR / group).glob("[!_]*.yaml"))
    with composer(None) as hydra:
        bases = Bases(hydra)
        return {name: bases.of([f"{group}={name}"]) for name in names}


@pytest.fixture(scope="session")
def methods() -> dict[str, Base]:
    return _every("method")


@pytest.fixture(scope="session")
def data_sets() -> dict[str, Base]:
    return _every("data")


@pytest.fixture(scope="session")
def backbones() -> dict[str, Base]:
    return _every("backbone")
