"""The runner's loop against a bare one written by hand: images per second of each phase of ADDA, as a ratio.

    python scripts/bench_loop.py            # 9 turns of 40 steps each, about two minutes on 2 cores

Both train the same networks on the same tensors on the same device, in one process, in turns; the bare loop is what
one would write for this one method: no configuration, no metrics, no counters, no seeding per step. Printed are the
medians; the last line is the smallest ratio, runner over bare.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from tl_runner import run
from tl_runner.plan import check
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.loop import PhaseLoop


def bare_pretrain(method, splits, options, device, augment, steps: int) -> Callable[[], None]:
    """Supervised training on the source, by hand."""
    encoder, head, source = method.encoder, method.head, splits["source_train"]
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=options["optimizer"]["lr"], fused=True)
    size = options["batch_size"]

    def epoch() -> None:
        encoder.train()
        head.train()
        for p in parameters:
            p.requires_grad_(True)
        order = torch.cat([torch.randperm(len(source)) for _ in range(-(-steps * size // len(source)))]).to(device.torch)
        for step in range(steps):
            index = order[step * size : (step + 1) * size]
            x = view(source.x[index], augment, device)
            with device.autocast():
                loss = F.cross_entropy(head(encoder(x)), source.y[index], label_smoothing=options["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def bare_adapt(method, splits, options, device, augment, steps: int) -> Callable[[], None]:
    """ADDA's adversarial phase, by hand."""
    source_encoder, encoder, head, discriminator = method.encoder, method.target_encoder, method.head, method.discriminator
    source, target, size = splits["source_train"], splits["target_train"], options["batch_size"]

    def adam(network, section):
        return torch.optim.Adam(
            network.parameters(), lr=section["lr"], betas=tuple(section["betas"]), weight_decay=section["weight_decay"], fused=True
        )

    of_encoder = adam(encoder, options["optimizer"])
    of_discriminator = adam(discriminator, options["discriminator_optimizer"])
    ones, zeros = torch.ones(size, 1, device=device.torch), torch.zeros(size, 1, device=device.torch)

    def epoch() -> None:
        method.requires_grad_(False)
        method.eval()
        encoder.train().requires_grad_(True)
        discriminator.train()
        orders = [torch.cat([torch.randperm(len(s)) for _ in range(-(-steps * size // len(s)))]).to(device.torch) for s in (source, target)]
        for step in range(steps):
            rows = slice(step * size, (step + 1) * size)
            xs, xt = (view(s.x[order[rows]], augment, device) for s, order in zip((source, target), orders, strict=True))
            discriminator.requires_grad_(True)
            with torch.no_grad(), device.autocast():
                codes = torch.cat([head(source_encoder(xs)), head(encoder(xt))])
            with device.autocast():
                loss = F.binary_cross_entropy_with_logits(discriminator(codes), torch.cat([ones, zeros]))
            of_discriminator.zero_grad()
            loss.backward()
            of_discriminator.step()
            discriminator.requires_grad_(False)
            with device.autocast():
                loss = F.binary_cross_entropy_with_logits(discriminator(head(encoder(xt))), ones)
            of_encoder.zero_grad()
            loss.backward()
            of_encoder.step()

    return epoch


def view(x, augment, device):
    """uint8 images to what the networks see."""
    x = x.float().div_(255)
    if augment:
        x = augment(x, None)
    if device.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for tl-run: device=cuda data=mnist2usps ...")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()

    config = check(["method=adda", "data=fonts2digits", "method.adapt.gate=0", *arguments.overrides], sweep=False)[0].config
    device = devices.resolve(config["device"])
    task, augment = run.load_data(config)
    print(f"{device.describe()}, torch {torch.__version__}, {arguments.turns} turns of {arguments.steps} steps, {Path(__file__).name}")
    print(f"{'phase':<10} {'runner img/s':>14} {'bare img/s':>14} {'ratio':>8}")
    smallest = float("inf")
    for number, bare in enumerate((bare_pretrain, bare_adapt)):
        loops = {}
        for kind in ("runner", "bare"):
            method = run.build_method(config, task)
            device.place(method)
            for network in method.networks():
                device.accelerate(network)
            splits = {name: split.to(device.torch, device.channels_last) for name, split in task.splits.items()}
            phase = method.phases()[number]
            if kind == "runner":
                reads = {domain: splits[name] for domain, name in phase.reads.items()}
                batches = Batches(reads, phase.batch_size, arguments.steps, device, augment, (0, phase.name))
                loop = PhaseLoop(method, phase, batches, device, 0, epochs=arguments.turns + 1)
                loops[kind] = runner_epoch(loop)
            else:
                loops[kind] = bare(method, splits, config["method"][phase.name], device, augment, arguments.steps)
        images = arguments.steps * phase.batch_size * len(phase.reads)
        speeds = in_turns(loops, arguments.turns, images, device)
        ratio = speeds["runner"] / speeds["bare"]
        smallest = min(smallest, ratio)
        print(f"{phase.name:<10} {speeds['runner']:>14,.0f} {speeds['bare']:>14,.0f} {ratio:>8.3f}")
    print(f"{smallest:.3f}")


def runner_epoch(loop: PhaseLoop) -> Callable[[], None]:
    """One epoch of the runner a call, with all that it does for one: order, modes, meters read."""
    epochs = iter(range(10**6))

    def epoch() -> None:
        number = next(epochs)
        loop.begin_epoch(number)
        loop.run_epoch(number, 0, lambda done: False)
        loop.meter.means()

    return epoch


def in_turns(loops: dict[str, Callable[[], None]], turns: int, images: int, device) -> dict[str, float]:
    """Median images per second of each, after one turn to warm up; who goes first alternates."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns + 1):
        for name in list(loops)[:: 1 if turn % 2 else -1]:
            device.synchronize()
            started = time.perf_counter()
            loops[name]()
            device.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: images / statistics.median(s) for name, s in seconds.items()}


if __name__ == "__main__":
    main()
