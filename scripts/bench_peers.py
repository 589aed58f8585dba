"""Seconds per training step of tl-run, of pytorch-adapt and of a plain PyTorch loop.

    pip install 'pytorch-adapt==0.0.83' 'setuptools<81'   # whose dependency needs pkg_resources
    python scripts/bench_peers.py data.root=$HOME/data    # 9 turns of 40 steps

DANN and DAN from MNIST to USPS.
Same LeNet, head and discriminator, 64 + 64 images a step, no augmentation; in one process, in
turns, medians.

- ``tl-run``: its loop as it ships, on tensors that live on the device.
- ``pytorch-adapt``: its ``DANN`` and its ``Aligner`` with as many Gaussian kernels, and the same
  estimate of the MMD, as ours, fed as in its examples: torchvision's data sets with transforms of
  each sample (to a tensor, normalised), its ``CombinedSourceAndTargetDataset`` and
  ``DataloaderCreator``, plain ``torch.optim.Adam``.
- ``by hand``: the bare loop of ``bare/<method>.py`` on a ``DataLoader`` for each of the same
  torchvision data sets.

The loaders run in the process or in two workers. The last line is our smallest gain over
pytorch-adapt's better loader, in times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import bare
import torch
from bare._loop import Ground, learn
from bench_loop import placed
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.methods.batch import Samples
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

try:
    from pytorch_adapt.adapters import DANN, Aligner
    from pytorch_adapt.containers import Models, Optimizers
    from pytorch_adapt.datasets import (
        CombinedSourceAndTargetDataset,
        DataloaderCreator,
        SourceDataset,
        TargetDataset,
    )
    from pytorch_adapt.layers import MMDLoss
    from pytorch_adapt.layers.utils import get_kernel_scales
    from pytorch_adapt.utils.common_functions import batch_to_device
except ImportError as error:
    raise SystemExit(
        f"pytorch-adapt cannot be imported ({error}). Install it: pip install "
        "'pytorch-adapt==0.0.83' 'setuptools<81'"
    ) from error

METHODS = ("dann", "dan")
WORKERS = (0, 2)
# steps before each turn's clock starts, which use up what a loader's workers fetched in the others'
# turns
SETTLE = 6
PLAIN = [f"data.augment.{key}=0" for key in ("rotate", "translate", "scale", "stretch", "shear")]

Steps = Callable[[int], None]  # trains for so many steps


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "overrides", nargs="*", help="as for tl-run: data.root=$HOME/data device=cuda ..."
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_intermixed_args(words)
    smallest = float("inf")
    for method in METHODS:
        config = check(
            [
                f"method={method}",
                "data=mnist2usps",
                "train.batch_size=64",
                *PLAIN,
                *asked.overrides,
            ],
            sweep=False,
        )[0].config
        device = devices.resolve(config["device"])
        if method == METHODS[0]:
            print(
                f"{device.describe()}, torch {torch.__version__}, {asked.turns} turns of "
                f"{asked.steps} steps"
            )
            print(f"{'method':<8} {'who':<28} {'ms a step':>10} {'tl-run gains':>13}")
        seconds = in_turns(
            contestants(config, device, asked.steps), asked.turns, asked.steps, device
        )
        for who, taken in seconds.items():
            print(
                f"{method:<8} {who:<28} {1e3 * taken:>10.2f} {taken / seconds['tl-run']:>13.2f}",
                flush=True,
            )
        peer = min(taken for who, taken in seconds.items() if who.startswith("pytorch-adapt"))
        smallest = min(smallest, peer / seconds["tl-run"])
    print(f"{smallest:.3f}")


def contestants(config: dict[str, Any], device: Device, steps: int) -> dict[str, Steps]:
    """Each on networks of its own, all with the same first weights."""
    loops = {"tl-run": ours(config, device, steps)}
    for workers in WORKERS:
        loops[f"pytorch-adapt, {workers} workers"] = pytorch_adapt(config, device, workers)
        loops[f"by hand, {workers} workers"] = by_hand(config, device, workers)
    return loops


def ours(config: dict[str, Any], device: Device, steps: int) -> Steps:
    task, augment = run.load_data(config)
    assert augment is None
    method = placed(method_of(config, task.outline()), device)
    phase = method.phases()[-1]
    splits = {
        domain: task.splits[name].to(device.torch, device.channels_last)
        for domain, name in phase.reads.items()
    }
    batches = Batches(splits, phase.length.batch_size, steps, device, None, (0, phase.name))
    loop, numbers = PhaseLoop(method, phase, batches, device, 0, epochs=100), count()

    def train(steps: int) -> None:
        epoch = next(numbers)
        loop.begin_epoch(epoch)
        loop.run_epoch(epoch, 0, lambda done: done == steps)
        loop.meter.means()

    return train


def pytorch_adapt(config: dict[str, Any], device: Device, workers: int) -> Steps:
    options = config["method"]
    method = method_of(config, run.load_data(config)[0].outline()).to(device.torch)
    networks = {"G": method.encoder, "C": method.head}
    if options["name"] == "dann":
        networks["D"] = nn.Sequential(method.discriminator, nn.Flatten(start_dim=0))
    adam = {"lr": options["adapt"]["optimizer"]["lr"]}
    containers = {"models": Models(networks), "optimizers": Optimizers((torch.optim.Adam, adam))}
    if options["name"] == "dann":
        adapter = DANN(**containers)
    else:
        assert (options["kernel_ratio"], options["estimator"]) == (2.0, "unbiased")
        reach = (options["kernels"] - 1) / 2
        scales = get_kernel_scales(low=-reach, high=reach, num_kernels=options["kernels"], base=2.0)
        adapter = Aligner(
            **containers,
            hook_kwargs={"loss_fn": MMDLoss(kernel_scales=scales, mmd_type="quadratic")},
        )
    mnist, usps = digits(config)
    combined = CombinedSourceAndTargetDataset(SourceDataset(mnist), TargetDataset(usps))
    create = DataloaderCreator(batch_size=options["adapt"]["batch_size"], num_workers=workers)
    batches = forever(create(train=combined)["train"])

    def train(steps: int) -> None:
        adapter.models.train()
        for _ in range(steps):
            adapter.training_step(batch_to_device(next(batches), device.torch))

    return train


def by_hand(config: dict[str, Any], device: Device, workers: int) -> Steps:
    device = replace(device, channels_last=False)
    options = config["method"]
    method = method_of(config, run.load_data(config)[0].outline()).to(device.torch)
    ground = Ground(method, options, options["adapt"], {}, device)
    loop = bare.load(options["name"], ground)
    size = options["adapt"]["batch_size"]
    loaders = [
        DataLoader(d, batch_size=size, shuffle=True, drop_last=True, num_workers=workers)
        for d in digits(config)
    ]
    sources, targets = map(forever, loaders)

    def train(steps: int) -> None:
        learn(method, *loop.trains)
        for step in range(steps):
            (xs, ys), (xt, _) = next(sources), next(targets)
            source = Samples(xs.to(device.torch), ys.to(device.torch), torch.empty(0))
            loop.step(
                source=source,
                target=Samples(xt.to(device.torch), None, torch.empty(0)),
                progress=step / steps,
            )

    return train


def digits(config: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """MNIST and USPS as most code reads them: a PIL image at a time, to normalised float tensors of
    28x28."""
    root = Path(config["data"]["root"]).expanduser()
    tensors = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    mnist = datasets.MNIST(str(root), train=True, transform=transforms.Compose(tensors))
    usps = datasets.USPS(
        str(root / "USPS"),
        train=True,
        transform=transforms.Compose([transforms.Resize(28), *tensors]),
    )
    return mnist, usps


def forever(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def in_turns(loops: dict[str, Steps], turns: int, steps: int, device: Device) -> dict[str, float]:
    """Median seconds per step of each, after one turn to warm up; who goes first changes with every
    turn."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    names = list(loops)
    for turn in range(turns + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            loops[name](SETTLE)
            device.synchronize()
            started = time.perf_counter()
            loops[name](steps)
            device.synchronize()
            if turn:
                seconds[name].append((time.perf_counter() - started) / steps)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
