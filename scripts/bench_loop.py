"""Speed of the runner's loop over that of bare ones by hand, in each method's own phase.

    python scripts/bench_loop.py                       # every bare loop, 9 turns of 40 steps
    python scripts/bench_loop.py --methods dann,mcd data=mnist2usps

Both train the same networks on the same tensors on the same device with the same losses,
augmentation and optimisers, in one process, in turns; a bare loop (``bare/<method>.py``) is what
one would write for that one method. ADDA trains without its gate, so that both do the same work.
Printed are the methods without a bare loop, then images per second, medians over the turns; the
last line is the smallest ratio, runner over bare.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import bare
import torch
from bare._loop import Ground, epochs

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.config.paths import CONF_DIR
from tl_runner.jobs import run
from tl_runner.methods.base import Method
from tl_runner.methods.phases import Phase
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

# what the bare loops do not follow
FIXED = ("method", "backbone.bn=", "data.target_labels=", "experiment=")


def shipped() -> list[str]:
    """The methods under ``conf/method``, in alphabetical order."""
    return sorted(path.stem for path in (CONF_DIR / "method").glob("[!_]*.yaml"))


def chosen(names: str | None) -> list[str]:
    """The methods to measure, in alphabetical order: those asked for, or all with a bare loop.

    Raises:
        SystemExit: one that was asked for is not shipped, or has no bare loop.
    """
    there = bare.names()
    if not names:
        return there
    wanted = set(names.split(","))
    if unknown := wanted - set(shipped()):
        raise SystemExit(
            f"--methods: no {', '.join(sorted(unknown))} under conf/method. There are "
            f"{', '.join(shipped())}."
        )
    if unmeasured := wanted - set(there):
        raise SystemExit(
            f"--methods: no bare loop for {', '.join(sorted(unmeasured))} (a file of that name "
            f"under scripts/bare). There are {', '.join(there)}."
        )
    return sorted(wanted)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "overrides",
        nargs="*",
        help="as for tl-run: device=cuda data=mnist2usps train.batch_size=64 ...",
    )
    parser.add_argument("--methods", help="comma-separated; by default all that have a bare loop")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_intermixed_args(words)
    names = chosen(asked.methods)
    if refused := [word for word in asked.overrides if word.startswith(FIXED)]:
        raise SystemExit(
            f"{refused[0]}: the bare loops are written for the methods as shipped. Leave it out; "
            "--methods chooses."
        )

    if not asked.methods and (without := sorted(set(shipped()) - set(names))):
        print(f"Without a bare loop, not measured: {', '.join(without)}")
    smallest = float("inf")
    for name in names:
        phase, device, speeds = measured(name, asked.overrides, asked.turns, asked.steps)
        if name == names[0]:
            print(
                f"{device.describe()}, torch {torch.__version__}, {asked.turns} turns of "
                f"{asked.steps} steps"
            )
            print(
                f"{'method':<12} {'phase':<10} {'runner img/s':>14} {'bare img/s':>14} {'ratio':>8}"
            )
        ratio = speeds["runner"] / speeds["bare"]
        smallest = min(smallest, ratio)
        print(
            f"{name:<12} {phase:<10} {speeds['runner']:>14,.0f} {speeds['bare']:>14,.0f} "
            f"{ratio:>8.3f}",
            flush=True,
        )
    print(f"{smallest:.3f}")


def measured(
    name: str, overrides: Sequence[str], turns: int, steps: int
) -> tuple[str, Device, dict[str, float]]:
    """(phase, device, images per second of runner and bare) of a method's last phase."""
    words = [f"method={name}", *bare.overrides(name), *overrides]
    config = check(words, sweep=False)[0].config
    device = devices.resolve(config["device"])
    task, augment = run.load_data(config)
    loops: dict[str, Callable[[], None]] = {}
    for kind in ("runner", "bare"):
        method = placed(method_of(config, task.outline()), device)
        phase = trained(method)
        if phase.hooks.begin:
            phase.hooks.begin()
        splits = {
            domain: task.splits[split].to(device.torch, device.channels_last)
            for domain, split in phase.reads.items()
        }
        views = augment if phase.sampling.augment else None
        if kind == "runner":
            batches = Batches(
                splits, phase.length.batch_size, steps, device, views, (0, phase.name)
            )
            loops[kind] = runner_epoch(
                PhaseLoop(method, phase, batches, device, 0, epochs=turns + 1)
            )
        else:
            # generations have that in common
            section = config["method"].get(phase.name) or config["method"]["distil"]
            ground = Ground(method, config["method"], section, splits, device)
            loops[kind] = epochs(ground, bare.load(name, ground), steps, turns + 1, views)
    return (
        phase.name,
        device,
        in_turns(loops, turns, steps * phase.length.batch_size * len(phase.reads), device),
    )


def trained(method: Method) -> Phase:
    """The last phase in which networks learn."""
    return next(
        phase
        for phase in reversed(method.phases())
        if any(update.networks for update in phase.updates)
    )


def placed(method: Method, device: Device) -> Method:
    """On the device, compiled where asked."""
    device.place(method)
    for network in method.networks():
        device.accelerate(network)
    return method


def runner_epoch(loop: PhaseLoop) -> Callable[[], None]:
    """One epoch of the runner a call, with all that it does for one: order, modes, meters read."""
    numbers = iter(range(10**6))

    def epoch() -> None:
        number = next(numbers)
        loop.begin_epoch(number)
        loop.run_epoch(number, 0, lambda done: False)
        loop.meter.means()

    return epoch


def in_turns(
    loops: dict[str, Callable[[], None]], turns: int, images: int, device: Device
) -> dict[str, float]:
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
