"""Cost of using a classifier: parameters, operations, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from tl_runner.training.device import Device

PASSES = 30  # whose median time counts, after a few that do not


@torch.no_grad()
def cost(
    networks: Sequence[nn.Module],
    predict: Callable[[Tensor], Tensor],
    shape: Sequence[int],
    device: Device,
) -> dict[str, float | None]:
    """Cost of classifying one image (C, H, W).

    ``parameters``, ``flops`` (a multiplication and an addition are two), ``latency_ms``.

    Args:
        networks: in eval mode, those that ``predict`` uses among them; the others do not count.
        predict: images (1, C, H, W) to logits.
    """
    x = device.lay_out(torch.rand(1, *shape, device=device.torch))
    counter = FlopCounterMode(display=False)
    used: set[nn.Module] = set()
    hooks = [
        m.register_forward_pre_hook(lambda m, given: used.add(m))
        for network in networks
        for m in network.modules()
    ]
    with counter, device.autocast():
        predict(x)
    for hook in hooks:
        hook.remove()
    times = []
    for _ in range(5 + PASSES):
        device.begin_step()
        device.synchronize()
        began = time.perf_counter()
        with device.autocast():
            predict(x)
        device.synchronize()
        times.append(1e3 * (time.perf_counter() - began))
    parameters = {p for module in used for p in module.parameters(recurse=False)}
    return {
        "parameters": sum(p.numel() for p in parameters),
        "flops": counter.get_total_flops() or None,  # none are counted in what is compiled
        "latency_ms": round(statistics.median(times[5:]), 4),
    }


def short(n: float | None) -> str:
    """A number in three digits: ``1.28 M``."""
    if n is None:
        return ""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"
