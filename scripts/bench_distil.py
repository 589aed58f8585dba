"""Cost of distilling: images per second of KD's last phase, over those of two references.

    python scripts/bench_distil.py       # LeNet learns from DTN, all ten printed digits
    python scripts/bench_distil.py data=mnist data.root=~/data backbone=mlp backbone@teacher=mlp

Two pairs, each on the same images and networks in one process. With random views the teacher is
asked in every step: the runner against a bare loop of the same arithmetic, which asks it too. With
the images as they are it was asked once: against the runner's own phase that teaches the same
student by labels alone. Printed are medians over the turns; the last line is the smaller of the two
ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from bare import kd
from bare._loop import Ground, epochs
from bench_loop import in_turns, placed, runner_epoch

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.data.task import Task
from tl_runner.jobs import run
from tl_runner.methods.base import Method
from tl_runner.methods.phases import Phase
from tl_runner.training import device as devices
from tl_runner.training.batches import Augment, Batches
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop

WORDS = ("method=kd", "data=split_digits", "data.source_classes=null", "data.target_classes=null")
Epoch = Callable[[], None]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "overrides",
        nargs="*",
        help="as for tl-run: device=cuda backbone@teacher=resnet20 train.batch_size=64 ...",
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_intermixed_args(words)
    own = [] if any(word.startswith("data=") for word in asked.overrides) else list(WORDS[1:])
    ratios = []
    for fixed in (False, True):
        words = [
            WORDS[0],
            *own,
            *asked.overrides,
            f"method.distil.augment={str(not fixed).lower()}",
        ]
        config = check(words, sweep=False)[0].config
        device = devices.resolve(config["device"])
        task, augment = run.load_data(config)
        loops = pair(config, task, augment, device, fixed, asked.turns + 1, asked.steps)
        speeds = in_turns(
            loops, asked.turns, asked.steps * config["method"]["distil"]["batch_size"], device
        )
        if not ratios:
            print(
                f"{device.describe()}, torch {torch.__version__}, {asked.turns} turns of "
                f"{asked.steps} steps"
            )
        (ours, speed), (other, reference) = speeds.items()
        ratios.append(speed / reference)
        print(
            f"{ours:<36} {speed:>10,.0f} img/s   {other:<36} {reference:>10,.0f} img/s   ratio "
            f"{ratios[-1]:.3f}",
            flush=True,
        )
    print(f"{min(ratios):.3f}")


def pair(
    config: Mapping[str, Any],
    task: Task,
    augment: Augment | None,
    device: Device,
    fixed: bool,
    turns: int,
    steps: int,
) -> dict[str, Epoch]:
    """The runner's distilling phase and what it is measured against, by name: each an epoch a
    call."""
    made = [placed(method_of(config, task.outline()), device) for _ in range(2)]
    distil, alone = (
        next(phase for phase in method.phases() if phase.name == name)
        for method, name in zip(made, ("distil", made[1].baseline), strict=True)
    )
    loops = {
        "KD, asked once" if fixed else "KD, asked in every step": runner(
            made[0], distil, task, augment, device, turns, steps
        )
    }
    if fixed:
        return loops | {
            "the student by labels alone": runner(
                made[1], alone, task, augment, device, turns, steps
            )
        }
    splits = {
        domain: task.splits[split].to(device.torch, device.channels_last)
        for domain, split in distil.reads.items()
    }
    ground = Ground(made[1], config["method"], config["method"]["distil"], splits, device)
    return loops | {"the same by hand": epochs(ground, kd.bare(ground), steps, turns, augment)}


def runner(
    method: Method,
    phase: Phase,
    task: Task,
    augment: Augment | None,
    device: Device,
    turns: int,
    steps: int,
) -> Epoch:
    splits = {
        domain: task.splits[split].to(device.torch, device.channels_last)
        for domain, split in phase.reads.items()
    }
    batches = Batches(
        splits,
        phase.length.batch_size,
        steps,
        device,
        augment if phase.sampling.augment else None,
        (0, phase.name),
    )
    return runner_epoch(PhaseLoop(method, phase, batches, device, 0, epochs=turns))


if __name__ == "__main__":
    main()
