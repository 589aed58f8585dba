"""A frozen network and what is trained on its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._base import Backbone

KEYS = ("frozen", "bottleneck", "views")  # of a backbone's section, that are not the network's own


def trained_part(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section of what is trained on a frozen network's features: a layer, or nothing."""
    bn = {"bn": section.get("bn", "separate")}
    if not section["bottleneck"]:
        return {"name": "raw", **bn}
    layer = {"batch_norm": False, "dropout": 0.0, "input_dropout": 0.0}
    return {"name": "mlp", "hidden": [section["bottleneck"]], **layer, **bn}


class FrozenNetwork(nn.Module):
    """A network that stays as it is: pictures or texts to features (B, d, 1, 1), standardised.

    Args:
        network: is set to eval mode and takes no gradients.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: Backbone):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        width = network.out_features
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of some features (N, d); a constant one is only moved."""
        self.mean.copy_(features.double().mean(0))
        deviation = features.double().std(0, correction=0)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def scaled(self, features: Tensor) -> Tensor:
        """Features (B, d) as they are trained on, (B, d, 1, 1)."""
        return ((features - self.mean) / self.deviation)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self.network(x).float())

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Nothing: it stays in eval mode."""
        return super().train(False)


class OnFrozen(Backbone):
    """What is trained on a frozen network's features.

    In training the features are computed once, and these are its inputs, (B, d, 1, 1). To predict
    it gets the frozen network itself, and takes what that takes.

    Args:
        rest: what is trained.
    """

    frozen: FrozenNetwork | None

    def __init__(self, rest: Backbone):
        super().__init__()
        self.rest = rest
        self.out_features = rest.out_features
        self.frozen = None

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x if self.frozen is None else self.frozen(x))


def put_under(method: nn.Module, frozen: FrozenNetwork) -> None:
    """Give a method's backbones the frozen network that they stand on."""
    for module in [m for m in method.modules() if isinstance(m, OnFrozen)]:
        module.frozen = frozen
