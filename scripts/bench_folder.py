"""A folder of pictures to training steps: images per second of the runner against a plain
ImageFolder and DataLoader, as a ratio.

    python scripts/bench_folder.py cifar10-images/train
    python scripts/bench_folder.py cifar10-images/train --jpeg 256         # the same pictures,
    first saved as JPEGs of that size

Both train the same network with the same optimiser, batch size and kinds of random views, in one
process, an epoch each in turns; the plain loop decodes every picture in every epoch in its worker
processes, the runner has decoded all of them before its first one. Printed are the first epoch,
decoding included, the median of the later ones, and what each delivers where nothing is trained;
the last line is the ratio of the later epochs, runner over plain.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

BATCH = 128


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--jpeg", type=int, metavar="SIDE", help="save the pictures as JPEGs of SIDE pixels first"
    )
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as cache:
        if asked.jpeg:
            asked.folder = as_jpegs(asked.folder, Path(cache) / "jpegs", asked.jpeg)
        words = [
            "method=target_only",
            "data=folder",
            f"data.target_dir={asked.folder}",
            f"data.size={asked.size}",
            "data.target_labels=all",
            "data.test_fraction=0.01",
            "data.val_fraction=0.0",
            f"data.workers={asked.workers}",
            f"cache.dir={cache}",
            "backbone=small_cnn",
            f"train.batch_size={BATCH}",
            "train.steps_per_epoch=null",
        ]
        config = check(words, sweep=False)[0].config
        device = devices.resolve(config["device"])
        began = time.perf_counter()
        runner, images = runner_epochs(config, device, 2 * asked.epochs)
        decoded = time.perf_counter() - began
        loops = {
            "runner": runner,
            "plain": plain_epochs(
                config, device, asked.folder, asked.size, asked.workers, images // BATCH
            ),
        }
        print(
            f"{device.describe()}, torch {torch.__version__}, {images:,} pictures an epoch, "
            f"{asked.workers} workers"
        )
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        idle: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(asked.epochs):
            for train, found in ((True, seconds), (False, idle)):
                for name, epoch in loops.items():
                    started = time.perf_counter()
                    epoch(train)
                    device.synchronize()
                    found[name].append(time.perf_counter() - started)
    seconds["runner"][0] += decoded
    later, delivered = (
        {name: images / statistics.median(s[1:]) for name, s in found.items()}
        for found in (seconds, idle)
    )
    print(f"{'':<8} {'first epoch, s':>15} {'later, img/s':>14} {'only delivered, img/s':>22}")
    for name, s in seconds.items():
        print(f"{name:<8} {s[0]:>15.1f} {later[name]:>14,.0f} {delivered[name]:>22,.0f}")
    print(
        f"{'ratio':<8} {'':>15} {later['runner'] / later['plain']:>14.2f} "
        f"{delivered['runner'] / delivered['plain']:>22.2f}"
    )
    print(f"{later['runner'] / later['plain']:.3f}")


def runner_epochs(config: dict, device: Device, epochs: int) -> tuple[Callable[[bool], None], int]:
    """One epoch of the runner a call, and the images of each."""
    task, augment = run.load_data(config)
    method = method_of(config, task.outline())
    device.place(method)
    phase = method.phases()[-1]
    splits = {
        domain: task.splits[name].to(device.torch, device.channels_last)
        for domain, name in phase.reads.items()
    }
    batches = Batches(splits, BATCH, None, device, augment, (0, phase.name))
    loop, numbers = PhaseLoop(method, phase, batches, device, 0, epochs), iter(range(epochs))

    def epoch(train: bool) -> None:
        number = next(numbers)
        loop.begin_epoch(number)
        if train:
            loop.run_epoch(number, 0, lambda done: False)
            loop.meter.means()
        else:
            for step in range(loop.steps):
                batches[step]

    return epoch, loop.steps * BATCH


def as_jpegs(folder: Path, to: Path, side: int) -> Path:
    """A copy of a folder of classes, each picture enlarged."""
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        new = (to / file.relative_to(folder)).with_suffix(".jpg")
        new.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").resize((side, side)).save(new, quality=90)
    return to


def plain_epochs(
    config: dict, device: Device, folder: Path, size: int, workers: int, steps: int
) -> Callable[[bool], None]:
    """One epoch a call of the loop that everybody writes."""
    views = config["data"]["augment"]
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.RandomHorizontalFlip(views["flip"]),
            transforms.RandomAffine(
                views["rotate"],
                (views["translate"],) * 2,
                (1 / (1 + views["scale"]), 1 + views["scale"]),
                views["shear"],
            ),
            transforms.ToTensor(),
        ]
    )
    data = ImageFolder(str(folder), transform)
    loader = DataLoader(
        data,
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    classes = len(data.classes)
    width = (size // 4) ** 2 * 64
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
    device.place(network)
    optimizer = torch.optim.Adam(
        network.parameters(), config["train"]["optimizer"]["lr"], fused=True
    )

    def epoch(train: bool) -> None:
        network.train()
        for step, (x, y) in enumerate(loader):
            if step == steps:
                break
            x, y = device.lay_out(x.to(device.torch)), y.to(device.torch)
            if not train:
                continue
            loss = F.cross_entropy(network(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


if __name__ == "__main__":
    main()
