"""Every launcher preset runs a sweep for real on this machine, where its extra is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from support.covers import cases
from support.runs import ROOT, TINY, results
from tl_runner.training.device import free_gpu

# one thread everywhere: joblib gives each worker its share of the cores, and sums of floats depend
# on it
WORDS = (
    "-m",
    *TINY,
    "device.threads=1",
    "method=source_only",
    "train.epochs=1",
    "seed=0",
    "train.optimizer.lr=1e-3,1e30",
)
LAUNCHERS = {
    "processes": ("joblib", "sweep", ("hydra.launcher.n_jobs=2",)),
    "slurm_local": ("submitit", "cluster", ()),
    "ray_cluster": ("ray", "cluster", ("hydra.launcher.ray.init.num_cpus=2",)),
}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
    }
    return subprocess.run(
        [sys.executable, "-m", "tl_runner", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("one")
    assert command(folder, *WORDS).returncode == 1
    return results(folder)


@pytest.mark.parametrize("name", cases(LAUNCHERS, ("processes",)))
def test_a_launcher_runs_the_sweep(name, in_one_process, tmp_path):
    plugin, extra, more = LAUNCHERS[name]
    if not find_spec(f"hydra_plugins.hydra_{plugin}_launcher"):
        pytest.skip(f"the extra tl-run[{extra}] is not installed")
    ended = command(tmp_path, f"hydra/launcher={name}", *more, *WORDS, "hydra.sweep.dir=sweep")
    assert ended.returncode == 1, ended.stderr  # one run diverges
    found = results(tmp_path)
    assert [r["status"] for r in found] == ["done", "failed"]
    for result, other in zip(found, in_one_process, strict=True):
        assert result["metrics"] == other["metrics"]  # the same runs, to the bit
    assert "failed: pretrain, epoch 1" in ended.stdout
    assert (
        "DivergedError"
        in (tmp_path / "sweep" / "1-source_only-fonts2digits-s0" / "run.log").read_text()
    )
    if name != "slurm_local":  # submitit keeps a job's output in files
        assert "1-source_only-fonts2digits-s0: pretrain, epoch 1" in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_sweep_of_processes_is_resumed(tmp_path):
    if not find_spec("hydra_plugins.hydra_joblib_launcher"):
        pytest.skip("the extra tl-run[sweep] is not installed")
    words = (
        "-m",
        *TINY,
        "method=source_only",
        "train.epochs=1",
        "seed=0,1,2",
        "hydra/launcher=processes",
        "hydra.launcher.n_jobs=2",
        "hydra.sweep.dir=sweep",
    )
    assert command(tmp_path, *words).returncode == 0
    before = results(tmp_path)
    lost = tmp_path / "sweep" / "1-source_only-fonts2digits-s1"
    (lost / "result.json").unlink()
    (lost / "checkpoints" / "last.pt").unlink()
    ended = command(tmp_path, "resume=sweep")
    assert ended.returncode == 0, ended.stderr
    assert "2 of 3 runs are done already" in ended.stderr
    assert [r["metrics"] for r in results(tmp_path)] == [r["metrics"] for r in before]


def test_a_launcher_without_its_plugin_says_what_to_install(tl_run, tmp_path):
    own = tmp_path / "own" / "hydra" / "launcher"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults:\n  - submitit_of_tomorrow\n")
    ended = tl_run("--config-dir", str(tmp_path / "own"), "-m", "hydra/launcher=mine", "seed=0,1")
    assert ended.code == 2
    assert "tl-run[cluster]" in ended.err


def test_each_worker_takes_a_gpu_of_its_own(tmp_path, monkeypatch):
    """Made up: three GPUs, and workers that are child processes of this one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    code = (
        "import sys; from tl_runner.training.device import free_gpu; print(free_gpu(3), "
        "free_gpu(3), flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    workers = []
    for _ in range(4):
        worker = subprocess.Popen([sys.executable, "-c", code], **pipe)
        assert worker.stdout is not None
        workers.append((worker, worker.stdout.readline().split()))
    found = [line for _, line in workers]
    assert found[:3] == [["0", "0"], ["1", "1"], ["2", "2"]]  # a worker keeps its own
    assert found[3][0] in {"0", "1", "2"}  # more workers than GPUs share
    for worker, _ in workers:
        worker.communicate("")
    assert free_gpu(3) == 0
