"""What a meta-step of MAML costs: ours against `higher`, `torchopt` and a plain loop over tasks.

    pip install higher torchopt optree
    python scripts/bench_maml.py device.threads=2
    python scripts/bench_maml.py device=cuda --cases 5w1s1,20w5s5

The network is Conv-4 with strides, the meta-batch 32 tasks, the tasks are the same for all; each
variant does whole meta-steps, the outer Adam's step among them, in one process, in turns. `5w1s5`
is 5-way 1-shot with 5 inner steps. Printed are medians over the turns and the most memory that a
step took beyond what was there before it, of a process of its own. A variant whose package is not
installed is left out, with a word. The last line is the smallest ratio, our speed over a
reference's, of the 5-way 1-shot cases.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench_loop import in_turns, runner_epoch
from torch import nn

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.jobs import run
from tl_runner.methods.batch import Batch
from tl_runner.methods.fewshot.maml import MAML
from tl_runner.training import device as devices
from tl_runner.training.device import Device
from tl_runner.training.phase_loop import PhaseLoop
from tl_runner.training.task_batches import TaskBatches

CASES = "5w1s1,5w1s5,5w5s1,20w1s5"
TASKS = 32
Step = Callable[[Batch], None]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "overrides",
        nargs="*",
        help="as for tl-run: device=cuda device.threads=2 backbone.filters=32 ...",
    )
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_intermixed_args(words)
    if asked.memory_of:
        print(memory(asked.memory_of, asked.cases, asked.overrides))
        return
    ratios = []
    for case in asked.cases.split(","):
        loop, variants, plan = made(case, asked.overrides, asked.steps)
        if not ratios:
            absent = [name for name in PEERS if name not in variants]
            print(
                f"{loop.device.describe()}, torch {torch.__version__}, {TASKS} tasks, "
                f"{asked.turns} turns of {asked.steps} meta-steps"
            )
            print(
                f"not installed: {', '.join(absent)}" if absent else "all references are installed"
            )
            print(
                f"{'case':<8} {'variant':<28} {'ms a meta-step':>15} {'ours is':>9} {'peak MB':>9}"
            )
        speeds = in_turns(variants, asked.turns, asked.steps, loop.device)
        ours = next(iter(speeds))
        for name, speed in speeds.items():
            ratio = speeds[ours] / speed
            ratios += [(case, ratio)] if name != ours else []
            peak = alone(name, case, asked.overrides, plan)
            shown = f"ours, {plan}" if name == ours else name
            print(
                f"{case:<8} {shown:<28} {1e3 / speed:>15.0f} {ratio:>8.2f}x {peak:>9,.0f}",
                flush=True,
            )
    judged = [r for case, r in ratios if case.startswith("5w1s") or "5w1s" not in asked.cases]
    print(f"{min(judged):.3f}")


def made(
    case: str, overrides: Sequence[str], steps: int
) -> tuple[PhaseLoop, dict[str, Callable[[], None]], str]:
    """(our loop, the variants by name, ours first: each some meta-steps a call, the plan that ours
    measured to be the fastest)."""
    ways, rest = case.split("w")
    shots, inner = rest.split("s")
    words = [
        "method=maml",
        f"data.ways={ways}",
        f"data.shots={shots}",
        f"data.queries={shots}",
        f"method.inner.steps={inner}",
        f"method.meta.batch_size={TASKS}",
        *overrides,
    ]
    config = check(words, sweep=False)[0].config
    device = devices.resolve(config["device"])
    task, _ = run.load_data(config)
    method = method_of(config, task.outline())
    assert isinstance(method, MAML)
    device.place(method)
    (phase,) = method.phases()
    batches = TaskBatches(
        {"tasks": task.episodes["meta_train"].to(device.torch)}, TASKS, steps, device, (0, "meta")
    )
    # a run that is worth measuring
    loop = PhaseLoop(method, phase, batches, device, 0, epochs=1000)
    plan = loop.fastest()
    loop.follow(plan)
    options = config["method"]["inner"] | {"lr": config["method"]["meta"]["optimizer"]["lr"]}

    def over(step: Step) -> Callable[[], None]:
        def some() -> None:
            batches.begin_epoch(0)
            for number in range(steps):
                step(batches[number])

        return some

    there = {
        name: make for name, make in REFERENCES.items() if name not in PEERS or find_spec(name)
    }
    others = {
        name: over(make(plain(method, device), options, device)) for name, make in there.items()
    }
    return loop, {"ours": runner_epoch(loop)} | others, plan


def plain(method: MAML, device: Device) -> nn.Module:
    """The same network of torch's own layers, with batch norm by the statistics of the batch."""
    layers: list[nn.Module] = []
    for layer in method.encoder.layers:
        if isinstance(layer, nn.Conv2d):
            layers.append(
                nn.Conv2d(
                    layer.in_channels,
                    layer.out_channels,
                    3,
                    layer.stride,
                    1,
                    bias=layer.bias is not None,
                )
            )
        elif [*layer.parameters()]:
            layers.append(nn.BatchNorm2d(len(layer.weight), track_running_stats=False))
        else:
            layers.append(layer)
    network = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(method.head.in_features, method.head.out_features),
    )
    for own, theirs in zip(
        network.parameters(), [*method.encoder.parameters(), *method.head.parameters()], strict=True
    ):
        own.data.copy_(theirs.data)
    device.place(network)
    return network


def tasks_of(batch: Batch) -> Any:
    """(support x, y, query x, y) of each task."""
    return zip(batch.support.x, batch.support.y, batch.query.x, batch.query.y, strict=True)


def by_hand(network: nn.Module, options: Mapping[str, Any], device: Device) -> Step:
    """torch.autograd, a task after the other."""
    optimizer = torch.optim.Adam(network.parameters(), lr=options["lr"], fused=True)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        first = dict(network.named_parameters())
        for x, y, query_x, query_y in tasks_of(batch):
            weights = first
            for _ in range(options["steps"]):
                loss = F.cross_entropy(torch.func.functional_call(network, weights, (x,)), y)
                gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                weights = {
                    name: w - options["rate"] * g
                    for (name, w), g in zip(weights.items(), gradients, strict=True)
                }
            (
                F.cross_entropy(torch.func.functional_call(network, weights, (query_x,)), query_y)
                / TASKS
            ).backward()
        optimizer.step()

    return step


def with_higher(network: nn.Module, options: Mapping[str, Any], device: Device) -> Step:
    """As its examples."""
    import higher

    optimizer = torch.optim.Adam(network.parameters(), lr=options["lr"], fused=True)
    inner = torch.optim.SGD(network.parameters(), lr=options["rate"])

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        for x, y, query_x, query_y in tasks_of(batch):
            with higher.innerloop_ctx(network, inner, copy_initial_weights=False) as (
                adapted,
                descent,
            ):
                for _ in range(options["steps"]):
                    descent.step(F.cross_entropy(adapted(x), y))
                (F.cross_entropy(adapted(query_x), query_y) / TASKS).backward()
        optimizer.step()

    return step


def with_torchopt(network: nn.Module, options: Mapping[str, Any], device: Device) -> Step:
    """As its examples."""
    import torchopt

    optimizer = torch.optim.Adam(network.parameters(), lr=options["lr"], fused=True)
    inner = torchopt.MetaSGD(network, lr=options["rate"])

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        first = torchopt.extract_state_dict(network, by="reference", detach_buffers=True)
        descent = torchopt.extract_state_dict(inner, by="reference")
        for x, y, query_x, query_y in tasks_of(batch):
            for _ in range(options["steps"]):
                inner.step(F.cross_entropy(network(x), y))
            (F.cross_entropy(network(query_x), query_y) / TASKS).backward()
            torchopt.recover_state_dict(network, first)
            torchopt.recover_state_dict(inner, descent)
        optimizer.step()

    return step


PEERS = ("higher", "torchopt")
REFERENCES: dict[str, Callable[[nn.Module, Mapping[str, Any], Device], Step]] = {
    "loop over tasks": by_hand,
    "higher": with_higher,
    "torchopt": with_torchopt,
}


def alone(name: str, case: str, overrides: Sequence[str], plan: str) -> float:
    """:func:`memory` in a process of its own."""
    batching = (
        ["method.task_batching=loop"]
        if plan == "loop"
        else ["method.task_batching=vmap", f"method.chunk={plan.split()[-1]}"]
    )
    command = [
        sys.executable,
        __file__,
        "--memory-of",
        name,
        "--cases",
        case,
        *batching,
        *overrides,
    ]
    return float(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    )


def memory(name: str, case: str, overrides: Sequence[str]) -> float:
    """MB that two meta-steps of a variant take beyond what was there before them."""
    loop, variants, _ = made(case, overrides, 1)
    if loop.device.torch.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
        before = resident("VmRSS")
    for _ in range(2):
        variants[name]()
    return (
        torch.cuda.max_memory_allocated() / 2**20
        if loop.device.torch.type == "cuda"
        else resident("VmHWM")
    ) - before


def resident(field: str) -> float:
    """MB of this process, as Linux counts them."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(field)
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
