"""A finished run that predicts, on pictures made up here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.pictures import made_up
from support.runs import TINY

FOLDER = [word for word in TINY if not word.startswith("data.")]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run on pictures made up here: (its folder, the pictures' folder)."""
    place = tmp_path_factory.mktemp("trained")
    root = made_up(place / "pets", classes=("cat", "dög", "emu"), n=20)
    words = [
        "data=folder",
        f"data.target_dir={root}",
        "data.target_labels=all",
        "data.size=24",
        "backbone=resnet20",
        f"cache.dir={place}",
    ]
    command = [
        sys.executable,
        "-m",
        "tl_runner",
        *FOLDER,
        "method=target_only",
        *words,
        f"hydra.run.dir={place / 'run'}",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=place, timeout=120)
    return place / "run", root
