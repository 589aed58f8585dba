"""Shared fixtures: the command in this process, real data where there is any, a tiny run's
overrides."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch is imported: workers that share cores do not fight for them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import made_digits
import pytest
import yaml

from tl_runner import plugins
from tl_runner.cli import run as cli
from tl_runner.config.paths import CONF_DIR
from tl_runner.methods.base import Method

ROOT = Path(__file__).resolve().parent.parent

# a whole run of every phase in about a second, on embedded data
TINY = (
    "device=cpu",
    "figures=false",
    "data.per_face=2",
    "train.epochs=2",
    "train.steps_per_epoch=4",
    "train.batch_size=32",
    "train.limit.samples=200",
)


@cache
def data_root() -> Path | None:
    """The data root with MNIST and USPS, or None; asked while tests are collected, before one
    changes the environment."""
    for root in (os.environ.get("TL_DATA_ROOT"), ROOT.parent / "shared" / "data", ROOT / "data"):
        if root and (Path(root) / "MNIST").is_dir() and (Path(root) / "USPS").is_dir():
            return Path(root).resolve()
    return None


@cache
def module_of(group: str, choice: str) -> str:
    """The module that a shipped choice names, by its files alone: to compose every choice takes a
    minute, while tests are collected."""
    file = CONF_DIR / group / f"{choice}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    own = content.get(group, content)
    if name := own.get("module", own.get("name")):
        return name
    parts = [
        part for part in content.get("defaults", []) if isinstance(part, str) and part != "_self_"
    ]
    return next(
        module_of(group, part) for part in parts if (CONF_DIR / group / f"{part}.yaml").exists()
    )


def method_class(name: str) -> type:
    """Of a shipped choice of ``method``."""
    return plugins.class_in("methods/*", module_of("method", name), Method)


def pytest_collection_modifyitems(items) -> None:
    import torch

    data_root()
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("real_data") and data_root() is None:
            item.add_marker(
                pytest.mark.skip(reason="no MNIST and USPS under TL_DATA_ROOT or ../shared/data")
            )


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture
def real_root() -> Path:
    root = data_root()
    assert root is not None
    return root


@pytest.fixture
def made_up_root(tmp_path, monkeypatch) -> Path:
    """A data root with a tiny made-up set of every kind that needs files."""
    made_digits.shrink(monkeypatch)
    return made_digits.make_everything(tmp_path / "made up")


@pytest.fixture
def tl_run(tmp_path, monkeypatch, capfd):
    """``tl_run(*words)``: the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TL_DATA_ROOT", raising=False)

    def command(*words: str) -> Ended:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", ["tl-run"])
            cli.main(list(words))
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return command


def results(folder: Path) -> list[dict]:
    """Every result.json below a folder, in order of path."""
    return [json.loads(p.read_text()) for p in sorted(folder.rglob("result.json"))]
