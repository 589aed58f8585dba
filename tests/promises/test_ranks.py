"""One run over two processes (gloo, CPU) is the run of one process with batches twice as big; it
stops and goes on as one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from support import rank_driver
from support.kills import PROCESSES
from support.phase_loops import CPU, SGD, Toy, split
from support.runs import ROOT, TINY, Ended
from support.same_runs import assert_same, content
from tl_runner.data.augment import Affine
from tl_runner.errors import ConfigError
from tl_runner.methods.phases import Length, Outputs, Phase, Update
from tl_runner.training.batches import Batches
from tl_runner.training.distributed import ALONE, Ranks

DRIVER = str(ROOT / "tests" / "support" / "rank_driver.py")
SIX = (*TINY, "method=adda", "train.steps_per_epoch=6")
METHODS = ("source_only", "adda")
# the same function of a batch and of its parts
SMOOTH = (*SIX, "backbone.batch_norm=false", "seed=3")
ROUGH = (
    *SIX,
    "backbone.dropout=0.3",
    "method.adapt.gate=0.4",
    "method.adapt.gate_window=5",
    "seed=7",
)
FILES = {
    ".hydra",
    "checkpoints",
    "config.yaml",
    "embeddings.npz",
    "environment.json",
    "metrics.jsonl",
    "predictions.npz",
    "result.json",
    "run.log",
}


def free_ports(n: int) -> list[str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def surroundings(**more: str) -> dict[str, str]:
    threads = str(torch.get_num_threads())  # sums of floats depend on it
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": threads,
        "MASTER_ADDR": "127.0.0.1",
        **more,
    }


def pair(folder: Path, commands: list[dict]) -> list[list[Ended]]:
    """Commands, one after another, in two processes that stand in ``folder``: how each ended, by
    command and rank."""
    ports = free_ports(len(commands))
    script = folder / "commands.json"
    script.write_text(
        json.dumps(
            [{"port": port, **command} for port, command in zip(ports, commands, strict=True)]
        )
    )
    started = []
    for rank in ("0", "1"):
        env = surroundings(MASTER_PORT=ports[0], RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2")
        given = (script, env, torch.get_num_threads())
        started.append(PROCESSES.Process(target=rank_driver.forked, args=given))
        started[-1].start()
    for process in started:
        process.join(300)
        process.kill()
    out, err = ([(folder / f"{name}{r}").read_text() for r in "01"] for name in ("out", "err"))
    for name in ("commands.json", "out0", "out1", "err0", "err1"):
        (folder / name).unlink()
    assert out == ["", ""]
    return [list(both) for both in zip(*map(endings, err), strict=True)]


def endings(err: str) -> list[Ended]:
    *texts, rest = re.split(r"^exit (\d+)\n", err, flags=re.MULTILINE)
    assert rest == "", rest
    return [Ended(int(code), "", text) for text, code in zip(texts[::2], texts[1::2], strict=True)]


def torchrun(folder: Path, *words: str) -> Ended:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={free_ports(1)[0]}",
        *words,
    ]
    ended = subprocess.run(
        command, cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=120
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, Ended]:
    """A run whose torchrun was sent SIGTERM in the fifth step: (folder, ending)."""
    folder = tmp_path_factory.mktemp("torchrun")
    script = folder / "commands.json"
    script.write_text(
        json.dumps(
            [{"words": [*ROUGH, f"hydra.run.dir={folder / 'run'}"], "at": 5, "whom": "torchrun"}]
        )
    )
    return folder / "run", torchrun(folder, DRIVER, str(script))


@pytest.fixture(scope="module")
def ended(stopped, tmp_path_factory) -> tuple[Path, dict[str, list[Ended]]]:
    """Everything that two processes do here, in one start of them: (folder, {name: both
    endings})."""
    folder, run = tmp_path_factory.mktemp("pair"), stopped[0]
    plain = {
        method: [*SMOOTH, f"method={method}", "train.batch_size=16", f"hydra.run.dir={method}"]
        for method in METHODS
    }
    commands = {
        **{method: {"words": words} for method, words in plain.items()},
        "sweep": {"words": ["-m", "seed=0,1"]},
        "taken": {"words": plain["adda"]},
        "diverging": {
            "words": [
                *TINY,
                "method=source_only",
                "train.optimizer.name=sgd",
                "train.optimizer.lr=1e30",
                "hydra.run.dir=nan",
            ]
        },
        "whole": {"words": [*ROUGH, "hydra.run.dir=whole"]},
        "stopped again": {"words": [f"resume={run}"], "at": 10, "whom": "itself"},
        "resumed": {"words": [f"resume={run}"]},
        "broken": {"words": [*SIX, "hydra.run.dir=broken"], "at": 5, "whom": "nobody"},
    }
    return folder, dict(zip(commands, pair(folder, list(commands.values())), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_one_with_a_batch_twice_as_big(ended, tl_run, tmp_path, method):
    one, two = tmp_path / "one", ended[0] / method
    alone = tl_run(*SMOOTH, f"method={method}", "train.batch_size=32", f"hydra.run.dir={one}")
    assert alone.code == 0, alone.text
    assert_ended(ended[1][method], 0)
    (weights, rows, predictions, result), (weights2, rows2, predictions2, result2) = (
        content(one),
        content(two),
    )
    assert len(rows) == len(rows2) > 4
    for row, row2 in zip(rows, rows2, strict=True):
        names = {k for k, v in row.items() if isinstance(v, str)}
        assert {k: row2[k] for k in names} == {k: row[k] for k in names}
        assert [v for k, v in row2.items() if k not in names] == pytest.approx(
            [v for k, v in row.items() if k not in names], abs=1e-5
        )
    for name, tensor in weights.items():
        torch.testing.assert_close(weights2[name], tensor, rtol=0, atol=1e-5)
    for name, array in predictions.items():
        np.testing.assert_allclose(predictions2[name], array, rtol=0, atol=1e-5)
    assert {p.name for p in two.iterdir()} == FILES
    assert not list(two.rglob("*.tmp"))
    assert result2["warnings"] == []
    assert json.loads((two / "environment.json").read_text())["world_size"] == 2
    assert (two / "run.log").read_text().count(" 1/2 ") == len(result["phases"])


def test_a_signal_is_agreed_on_and_the_run_goes_on_to_the_bit(stopped, ended):
    run, torchruns = stopped
    assert "tl-run: A checkpoint was written." in torchruns.err
    assert "exit 130" in torchruns.err
    assert_ended(ended[1]["stopped again"], 130)  # rank 1 alone had been told
    assert_ended(ended[1]["resumed"], 0)
    assert_ended(ended[1]["whole"], 0)
    assert_same(ended[0] / "whole", run)
    (warning,) = content(run)[3]["warnings"]
    assert "batch norm" in warning


def test_another_number_of_processes_cannot_go_on(ended, tl_run, tmp_path):
    shutil.copytree(ended[0] / "adda", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    alone = tl_run(f"resume={tmp_path / 'run'}")
    assert alone.code == 2
    assert "under torchrun with 2 processes" in alone.err


def test_a_bad_command_ends_every_process_and_is_said_once(ended, tmp_path):
    assert_ended(ended[1]["sweep"], 2, "-m under torchrun")
    assert not (ended[0] / "outputs").exists()
    both = ended[1]["taken"]
    assert both[0].code == 2
    assert "holds another run" in both[0].err
    assert (both[1].code, both[1].out) == (1, "")
    # torch itself may note there that the other process has gone
    assert "tl-run:" not in both[1].err
    one = torchrun(tmp_path, "-m", "tl_runner", "methd=adda")
    assert one.err.count("Did you mean 'method'") == 1
    assert "exitcode  : 2" in one.err
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_fails_every_process(ended):
    assert_ended(ended[1]["diverging"], 1, "became nan")
    assert json.loads((ended[0] / "nan" / "result.json").read_text())["status"] == "failed"


def test_a_process_that_fails_alone_fails_the_run(ended):
    both = ended[1]["broken"]
    assert [e.code for e in both] == [1, 1]
    assert "Another process of this run ended first" in both[0].err
    assert "ArithmeticError: made up" in both[1].err
    assert json.loads((ended[0] / "broken" / "result.json").read_text())["status"] == "failed"


def assert_ended(both: list[Ended], code: int, said: str = "") -> None:
    """Both processes ended so, and only the first spoke."""
    assert [e.code for e in both] == [code, code], both
    assert said in both[0].err
    assert both[1].err == ""


def test_a_loss_that_couples_samples_is_refused():
    toy = Toy()
    update = Update("mmd", [toy.a], SGD, toy.step_of("a"), couples=True)
    phase = Phase("toy", {"source": "source_train"}, [update], Length(1, 2), Outputs(toy.a))
    assert ALONE.limits([phase]) is None
    with pytest.raises(ConfigError, match="mmd couples the samples"):
        Ranks(0, 2).limits([phase])


@pytest.mark.parametrize("steps", [None, 7])
def test_the_parts_of_a_batch_make_the_batch(steps):
    def batches(size, ranks):
        made = Batches(
            {"source": split(20), "target": split(30)},
            size,
            steps,
            CPU,
            Affine(rotate=30, scale=0.3),
            (5, "p"),
            ranks,
        )
        made.begin_epoch(1)
        return made

    whole, parts = batches(6, ALONE), [batches(2, Ranks(rank, 3)) for rank in range(3)]
    assert {p.steps for p in parts} == {whole.steps} == {steps or 3}
    for step in range(whole.steps):
        found = []
        for one in (whole, *parts):
            torch.manual_seed(step)
            found.append(one[step])
        for domain in ("source", "target"):
            for key in ("x", "y", "index"):
                whole_one, *own = (getattr(getattr(b, domain), key) for b in found)
                assert torch.equal(whole_one, torch.cat(own))
