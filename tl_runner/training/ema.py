"""An exponential moving average of the weights that a phase trains."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor


class Average:
    """Averaged parameters, and batch norm's statistics, of some networks.

    The n-th step counts 1 - min(decay, (1 + n) / (10 + n)), so that the first weights are soon
    forgotten.

    Args:
        networks: their parameters and statistics are averaged.
        decay: in [0, 1).
    """

    def __init__(self, networks: Sequence[nn.Module], decay: float):
        held = nn.ModuleList(networks)
        self.live: list[Tensor] = [*held.parameters()]
        self.statistics: list[Tensor] = [b for b in held.buffers() if b.is_floating_point()]
        self.live += self.statistics
        self.decay, self.steps = decay, 0
        self.averaged = [t.detach().clone() for t in self.live]

    @torch.no_grad()
    def restart(self) -> None:
        """Forget what was averaged: the networks have just been given the weights that they start
        from."""
        self.steps = 0
        torch._foreach_copy_(self.averaged, [t.detach() for t in self.live])

    @torch.no_grad()
    def update(self) -> None:
        """Count the weights in after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averaged, [t.detach() for t in self.live], 1 - decay)

    @torch.no_grad()
    def adopt(self) -> None:
        """Put the average into the networks."""
        torch._foreach_copy_([t.detach() for t in self.live], self.averaged)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The networks have the average inside, their own weights again outside."""
        own = [t.detach().clone() for t in self.live]
        self.adopt()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_([t.detach() for t in self.live], own)

    def averaged_statistics(self) -> list[Tensor]:
        """The averaged statistics, which differ between ranks."""
        return self.averaged[len(self.averaged) - len(self.statistics) :]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "kept": [t.cpu() for t in self.averaged]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        for mine, stored in zip(self.averaged, state["kept"], strict=True):
            mine.copy_(stored)
