"""Images per second of each device option, by phase of ADDA, over plain fp32 on the same device.

    python scripts/bench_device.py device=cpu
    python scripts/bench_device.py device=cuda data=mnist2usps train.batch_size=1024

One process, the options in turns, medians; the first turns, in which compilation happens, are not
counted. The last line is the smallest ratio of the option that the device uses by default.
"""

from __future__ import annotations

import argparse

from bench_loop import in_turns, runner_epoch

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches
from tl_runner.training.phase_loop import PhaseLoop

OPTIONS = {
    "fp32": (),
    "fp32 channels_last": ("device.channels_last=true",),
    "bf16": ("device.precision=bf16",),
    "bf16 channels_last": ("device.precision=bf16", "device.channels_last=true"),
    "compile": ("device.compile=true",),
    "compile channels_last": ("device.compile=true", "device.channels_last=true"),
}
CUDA_ONLY = {
    "tf32": ("device.precision=tf32",),
    "fp16": ("device.precision=fp16",),
    "cuda_graphs": ("device.cuda_graphs=true",),
    "cuda_graphs bf16": ("device.cuda_graphs=true", "device.precision=bf16"),
}
DEFAULT = {"cpu": "fp32 channels_last", "cuda": "fp32", "mps": "fp32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for tl-run")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()

    def config_of(words):
        return check(
            ["method=adda", *arguments.overrides, "device.channels_last=false", *words], sweep=False
        )[0].config

    plain = devices.resolve(config_of(())["device"])
    options = {**OPTIONS, **(CUDA_ONLY if plain.torch.type == "cuda" else {})}
    if arguments.no_compile:
        options = {
            name: words
            for name, words in options.items()
            if "compile" not in name and "graphs" not in name
        }
    smallest = float("inf")
    for number in (0, 1):
        loops, images = {}, 0
        for name, words in options.items():
            config = config_of(words)
            device = devices.resolve(config["device"])
            task, augment = run.load_data(config)
            method = method_of(config, task.outline())
            device.place(method)
            for network in method.networks():
                device.accelerate(network)
            phase = method.phases()[number]
            reads = {
                domain: task.splits[split].to(device.torch, device.channels_last)
                for domain, split in phase.reads.items()
            }
            batches = Batches(
                reads, phase.length.batch_size, arguments.steps, device, augment, (0, phase.name)
            )
            loops[name] = runner_epoch(
                PhaseLoop(method, phase, batches, device, 0, arguments.turns + 2)
            )
            images = arguments.steps * phase.length.batch_size * len(phase.reads)
            loops[name]()  # compiles
        speeds = in_turns(loops, arguments.turns, images, plain)
        print(f"{plain.describe()}, {phase.name}: {'images/s':>26} {'over fp32':>10}")
        for name, speed in speeds.items():
            print(f"  {name:<50} {speed:>12,.0f} {speed / speeds['fp32']:>10.2f}")
        smallest = min(smallest, speeds[DEFAULT[plain.torch.type]] / speeds["fp32"])
    print(f"{smallest:.3f}")


if __name__ == "__main__":
    main()
