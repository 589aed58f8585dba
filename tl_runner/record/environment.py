"""Environment of a run: code, packages, machine, data."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tl_runner

if TYPE_CHECKING:
    from tl_runner.training.device import Device

PACKAGES = (
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scikit-learn",
    "matplotlib",
    "rich",
)


def environment(
    device: Device, command: Sequence[str], checksums: Mapping[str, str], world: int
) -> dict[str, Any]:
    """The content of ``environment.json``; ``world`` processes share the run."""
    return {
        "tl_run": tl_runner.__version__,
        "git": git(Path(tl_runner.__file__).parent),
        "command": list(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": {
            "name": str(device.torch),
            "is": device.describe(),
            "precision": device.precision,
            "channels_last": device.channels_last,
            "compile": device.compile,
            "cuda_graphs": device.cuda_graphs,
        },
        "world_size": world,
        "data_sha256": dict(checksums),
        "executable": sys.executable,
    }


def git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that the code runs from, and whether it has changes.

    None outside of one.
    """

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout

    try:
        # an installed wheel may lie inside somebody else's repository
        if not ask("ls-files", "--", "__init__.py").strip():
            return None
        return {
            "sha": ask("rev-parse", "HEAD").strip(),
            "dirty": bool(ask("status", "--porcelain").strip()),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
