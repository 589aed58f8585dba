"""Images a second of fine-tuning timm's networks at 224: ours over a plain loop, from memory.

    pip install timm
    python scripts/bench_finetune.py device=cuda device.precision=bf16
    python scripts/bench_finetune.py device=cpu --networks resnet18 --batch 4 --steps 2 --turns 1

The plain loop is what a training script does: timm's own model, channels last, AdamW in one fused
kernel, autocast as ours has it, a batch indexed out of uint8 images on the device, scaled by
ImageNet's mean and deviation. Each also compiled, where the device compiles. One process, in turns,
medians; the last line is the smallest ratio, our speed over the plain loop's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from bench_loop import in_turns, runner_epoch
from torch import Tensor

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

NETWORKS = "resnet50,vit_small_patch16_224"
CLASSES, SIZE = 10, 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for tl-run")
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_intermixed_args(words)
    print("| network | by | images/s | ratio |")
    print("| --- | --- | --- | --- |")
    smallest = float("inf")
    for name in asked.networks.split(","):
        config = check(
            [
                *("method=target_only", "data=folder", "data.target_dir=memory"),
                *("data.target_labels=all", f"data.size={SIZE}", "backbone=timm"),
                *(f"backbone.name={name}", f"train.batch_size={asked.batch}"),
                *("train.optimizer.name=adamw", *asked.overrides),
            ],
            sweep=False,
        )[0].config
        device = devices.resolve(config["device"])
        draw = torch.Generator().manual_seed(0)
        n = asked.batch * 4
        x = torch.randint(256, (n, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw)
        y = torch.randint(CLASSES, (n,), generator=draw)
        loops = {
            "a plain loop": plain(name, x, y, device, asked.batch, asked.steps, False),
            "ours": ours(config, x, y, asked.steps, asked.turns),
        }
        if device.torch.type == "cuda":
            compiled = {**config, "device": {**config["device"], "compile": True}}
            loops |= {
                "a plain loop, compiled": plain(name, x, y, device, asked.batch, asked.steps, True),
                "ours, compiled": ours(compiled, x, y, asked.steps, asked.turns),
            }
        speeds = in_turns(loops, asked.turns, asked.batch * asked.steps, device)
        for who, speed in speeds.items():
            of = speeds["a plain loop, compiled" if "compiled" in who else "a plain loop"]
            print(f"| {name} | {who} | {speed:,.1f} | {speed / of:.2f} |", flush=True)
            smallest = min(smallest, speed / of)
    print(f"{smallest:.3f}")


def ours(
    config: Mapping[str, Any], x: Tensor, y: Tensor, steps: int, turns: int
) -> Callable[[], None]:
    """An epoch of the runner on images in memory."""
    device = devices.resolve(config["device"])
    ids = torch.arange(len(x))
    splits = {"target_train": Split(x, None, ids), "target_labelled": Split(x, y, ids)}
    task = Task("memory", tuple(map(str, range(CLASSES))), splits, "random pictures")
    method = method_of(config, task.outline())
    device.place(method)
    for network in method.networks():
        device.accelerate(network)
    phase = method.phases()[-1]
    reads = {
        domain: task.splits[split].to(device.torch, device.channels_last)
        for domain, split in phase.reads.items()
    }
    batches = Batches(reads, phase.length.batch_size, steps, device, None, (0, phase.name))
    return runner_epoch(PhaseLoop(method, phase, batches, device, 0, turns + 2))


def plain(
    name: str, x: Tensor, y: Tensor, device: Device, batch: int, steps: int, compiled: bool
) -> Callable[[], None]:
    """So many steps of a plain loop."""
    model = timm.create_model(name, num_classes=CLASSES).to(
        device.torch, memory_format=torch.channels_last
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    network = torch.compile(model) if compiled else model
    x, y = x.to(device.torch), y.to(device.torch)
    mean, deviation = (
        torch.tensor(v, device=device.torch).view(1, 3, 1, 1) for v in (MEAN, DEVIATION)
    )

    def epoch() -> None:
        model.train()
        for _ in range(steps):
            rows = torch.randint(len(x), (batch,), device=device.torch)
            images = (x[rows].float().div_(255) - mean) / deviation
            images = images.contiguous(memory_format=torch.channels_last)
            with device.autocast():
                loss = F.cross_entropy(network(images).float(), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return epoch


if __name__ == "__main__":
    main()
