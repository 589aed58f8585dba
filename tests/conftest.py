"""Shared fixtures: the command in this process, real data where there is any, and made-up data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

if "PYTEST_XDIST_WORKER" in os.environ:
    # before torch is imported: workers that share cores do not fight for them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from support import compositions, made_digits
from support.runs import Ended, data_root
from tl_runner.cli import run as cli
from tl_runner.config.bases import Bases

Bases.of = compositions.of


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


@pytest.fixture
def real_root() -> Path:
    root = data_root()
    assert root is not None
    return root


@pytest.fixture(scope="session")
def made_up_once(tmp_path_factory) -> Path:
    """The data root of ``made_up_root``, made once; to be copied by who changes it."""
    return made_digits.make_everything(tmp_path_factory.mktemp("data") / "made up")


@pytest.fixture
def made_up_root(made_up_once, monkeypatch) -> Path:
    """A data root with a tiny made-up set of every kind that needs files, to be read."""
    made_digits.shrink(monkeypatch)
    return made_up_once


@pytest.fixture
def own_root(made_up_root, tmp_path) -> Path:
    """A copy of that root, to be changed."""
    return shutil.copytree(made_up_root, tmp_path / "made up")


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


@pytest.fixture
def tl_predict(capfd):
    from tl_runner.cli import predict as predicting

    def command(*words):
        with pytest.raises(SystemExit) as ended:
            predicting.main([str(word) for word in words])
        captured = capfd.readouterr()
        return SimpleNamespace(code=ended.value.code, out=captured.out, err=captured.err)

    return command
