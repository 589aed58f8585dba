"""Optimisers and learning-rate schedules from their config section."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.phases import Group


def make_optimizer(options: Mapping[str, Any], groups: Sequence[Group]) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over ``groups``, fused: one kernel for all of them."""
    parameters = [
        {
            "params": list(group.parameters),
            "lr": options["lr"] * group.rate,
            "weight_decay": options["weight_decay"]
            if group.weight_decay is None
            else group.weight_decay,
        }
        for group in groups
    ]
    shared: dict[str, Any] = {
        "lr": options["lr"],
        "weight_decay": options["weight_decay"],
        "fused": True,
    }
    if options["name"] == "sgd":
        return torch.optim.SGD(parameters, momentum=options["momentum"], **shared)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options["name"]]
    return kind(parameters, betas=tuple(options["betas"]), **shared)


def factor(options: Mapping[str, Any], progress: float) -> float:
    """The multiplier of the base learning rate at ``progress`` in [0, 1) of the phase."""
    warmup = options["warmup"]
    rise = min(1.0, progress / warmup) if warmup else 1.0
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "step": options["gamma"]
        ** sum(progress >= milestone for milestone in options["milestones"]),
        "inverse": (1.0 + 10.0 * progress) ** -0.75,  # Ganin et al., DANN, JMLR 2016, section 5.2.2
    }
    return rise * shape[options["schedule"]]
