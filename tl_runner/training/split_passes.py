"""A network's passes over the whole splits of a phase, which its hooks ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tl_runner.training.evaluator import outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.training.device import Device


class PhasePasses:
    """The :class:`~tl_runner.methods.batch.SplitPasses` of a phase at the beginning of an epoch.

    Args:
        method: in eval mode during a pass.
        splits: by the phase's names of its domains.
        epoch: the number of the one that begins.
    """

    def __init__(self, method: Method, splits: Mapping[str, Split], device: Device, epoch: int):
        self.method, self.splits, self.device, self.epoch = method, splits, device, epoch

    def __call__(
        self, network: Callable[[Tensor], Tensor], domain: str, most: int | None = None
    ) -> Tensor:
        return outputs_of(self.method, network, self._some(domain, most), self.device)

    def labels(self, domain: str, most: int | None = None) -> Tensor:
        y = self._some(domain, most).y
        assert y is not None, f"{domain} has no labels"
        return y

    def size(self, domain: str) -> int:
        return len(self.splits[domain])

    def _some(self, domain: str, most: int | None) -> Split:
        split = self.splits[domain]
        if most is None or len(split) <= most:
            return split
        return split.take(torch.arange(most, device=split.x.device) * len(split) // most)
