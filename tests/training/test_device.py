"""Device options: the same losses as plain fp32 within a stated tolerance, on the CPU and, where
there is one, on a GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch

from support.methods import build, loop_of
from tl_runner.errors import ConfigError
from tl_runner.training import device as devices

STEPS = 6


def means(*words: str) -> dict[str, float]:
    """Epoch means of both of ADDA's phases under device options, from the same weights and
    batches."""
    _, task, method, device = build("method=adda", *words)
    for network in method.networks():
        device.accelerate(network)
    task.splits.update(
        {n: s.to(device.torch, device.channels_last) for n, s in task.splits.items()}
    )
    found = {}
    for number in (0, 1):
        loop = loop_of(method, number, task, device, epochs=1, steps=STEPS)
        if loop.phase.hooks.begin:
            loop.phase.hooks.begin()
        loop.begin_epoch(0)
        loop.run_epoch(0, 0, lambda done: False)
        found |= {f"{loop.phase.name}/{k}": v for k, v in loop.meter.means().items()}
    return found


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name.endswith("accuracy"):  # counts of samples near the boundary
            assert value == pytest.approx(other[name], abs=0.1), name
        else:
            assert value == pytest.approx(other[name], rel=tolerance), name


CPU = ("device=cpu", "device.channels_last=false")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [(("device.channels_last=true",), 1e-3), (("device.precision=bf16",), 0.05)],
)
def test_cpu_options_give_the_same_losses(words, tolerance):
    assert_close(means(*CPU), means(*CPU, *words), tolerance)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU"
)
def test_compile_on_the_cpu_gives_the_same_losses():
    assert_close(means(*CPU), means(*CPU, "device.compile=true"), 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        (("device.channels_last=true",), 1e-3),
        (("device.precision=tf32",), 0.02),
        (("device.precision=bf16",), 0.05),
        (("device.precision=fp16",), 0.02),
        (("device.compile=true",), 1e-3),
        (("device.cuda_graphs=true",), 1e-3),
        (("device.cuda_graphs=true", "device.precision=bf16", "device.channels_last=true"), 0.05),
    ],
)
def test_gpu_options_give_the_same_losses(words, tolerance):
    assert_close(
        means("device=cuda", "device.channels_last=false"), means("device=cuda", *words), tolerance
    )


@pytest.mark.gpu
def test_gpu_and_cpu_agree():
    assert_close(means(*CPU), means("device=cuda", "device.channels_last=false"), 0.02)


def test_auto_resolves_to_what_there_is():
    options = {
        "name": "auto",
        "precision": "fp32",
        "channels_last": "auto",
        "compile": False,
        "cuda_graphs": False,
        "threads": None,
    }
    device = devices.resolve(options)
    expected = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert device.torch.type == expected
    assert device.peak_memory_mb() > 0
    assert device.describe()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_options_the_machine_lacks_are_refused():
    options = {
        "name": "cuda",
        "precision": "fp32",
        "channels_last": "auto",
        "compile": False,
        "cuda_graphs": False,
        "threads": None,
    }
    with pytest.raises(ConfigError, match="device=auto"):
        devices.resolve(options)
    for change in ({"precision": "fp16"}, {"precision": "tf32"}, {"cuda_graphs": True}):
        with pytest.raises(ConfigError):
            devices.resolve({**options, "name": "cpu", **change})


def test_denormals_are_flushed_before_anything_runs():
    code = (
        "import torch; from tl_runner.jobs import run; print((torch.tensor([1e-40]) * 1.0).item())"
    )
    # no other test's thread
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) == 0.0


@pytest.mark.parametrize(
    ("kind", "precision", "flags", "warns"),
    [
        ("cpu", "bf16", "fpu avx2 avx512f", True),
        ("cpu", "bf16", "fpu avx512f avx512_bf16", False),
        ("cpu", "bf16", "fp asimd bf16", False),
        ("cpu", "fp16", "fpu avx512f avx512_bf16", True),
        ("cpu", "fp32", "fpu", False),
        ("cpu", "bf16", "", False),
        ("meta", "bf16", "fpu", False),
    ],
)
def test_a_precision_that_a_processor_imitates_is_said(kind, precision, flags, warns):
    device = devices.Device(torch.device(kind), precision, False, False, False)
    assert ("imitates" in devices.slower_than_fp32(device, flags)) is warns
