"""Everything that waits for a GPU, in one command of ten minutes, as a Markdown page.

    python scripts/on_device.py > gpu.md
    python scripts/on_device.py --device cpu --budget 300     a try on the processor, cut short

Parts run one after the other, each in a process of its own with an end to its time, so that one
that fails or hangs costs the others nothing: ``pytest -m gpu``, fine-tuning of timm's networks, the
device's options, few-shot meta-steps, steps against pytorch-adapt, a sweep in one process and in
several. What is not installed says so. The first line names the device.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def parts(device: str) -> list[tuple[str, list[str], int]]:
    """(title, words of a Python command, seconds) of each part, the most wanted first."""
    small = device == "cpu"
    here = f"device={device}"
    script = lambda name, *words: [str(HERE / f"{name}.py"), *words]  # noqa: E731
    sizes = ["--networks", "resnet18", "--batch", "4", "--steps", "2", "--turns", "1"]
    finetune = [here, *(sizes if small else ["device.precision=bf16"])]
    few = ["--turns", "1", "--steps", "2"] if small else ["--turns", "5"]
    return [
        ("Tests on the device", ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"], 90),
        ("Fine-tuning at 224, bf16", script("bench_finetune", *finetune), 130),
        ("Options of the device, ADDA", script("bench_device", here, *few), 110),
        (
            "Meta-steps of MAML",
            script("bench_maml", here, "--cases", "5w1s1,5w1s5", *(few if small else [])),
            100,
        ),
        ("Steps against pytorch-adapt", script("bench_peers", here, *few), 80),
        ("A sweep of 8 seeds, one process", sweep(device, None), 60),
        ("A sweep of 8 seeds, 8 processes", sweep(device, 8), 60),
    ]


def sweep(device: str, workers: int | None) -> list[str]:
    """A sweep of ``dann`` on embedded digits."""
    words = ["-m", "tl_runner", "-m", "method=dann", "train.epochs=2", "figures=false"]
    words += [f"device={device}", "seed=0,1,2,3,4,5,6,7", "cache.phases=false"]
    launcher = ["hydra/launcher=processes", f"hydra.launcher.n_jobs={workers}"]
    several = launcher if workers else []
    return [*words, *several, f"hydra.sweep.dir=outputs/on_device/{time.time_ns()}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=int, default=560, help="seconds for all parts")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here: --device cpu tries the script.")
    name = torch.cuda.get_device_name() if asked.device == "cuda" else platform.machine()
    print(f"# {name}, torch {torch.__version__}\n", flush=True)
    ends = time.monotonic() + asked.budget
    for title, words, most in parts(asked.device):
        left = ends - time.monotonic()
        print(f"## {title}\n", flush=True)
        if left < 10:
            print("Not run: the time was up.\n", flush=True)
            continue
        print("\n".join(["```", *run(words, min(most, left)), "```", ""]), flush=True)


def run(words: list[str], most: float) -> list[str]:
    """The last lines that a Python command printed, with how it ended and how long it took."""
    began = time.monotonic()
    command = [sys.executable, *words]
    try:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=most, cwd=HERE.parent
        )
        output, how = ended.stdout, f"exit {ended.returncode}"
    except subprocess.TimeoutExpired as error:
        output, how = error.stdout or b"", f"stopped after {most:.0f} s"
    lines = output.decode(errors="replace").splitlines()
    took = f"[{how}, {time.monotonic() - began:.0f} s: python {' '.join(words)}]"
    return [*lines[-45:], took.replace(str(HERE), "scripts")]


if __name__ == "__main__":
    main()
