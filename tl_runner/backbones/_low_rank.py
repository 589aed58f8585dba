"""Low-rank adapters: a frozen weight plus a product of two thin matrices, which is trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """Adapted weight W + alpha / rank * B A of a linear or convolutional layer.

    The weight is seen as a matrix (out, everything else).

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1: A is
    random, B begins at 0, so that the layer begins as it was.

    Args:
        weight: of the layer, (out, ...).
        rank: of the product, at most the matrix's own.
        alpha: see above.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        out, into = len(weight), weight[0].numel()
        rank = min(rank, out, into)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, into, device=weight.device))
        self.b = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.scale * self.b @ self.a).view_as(weight)


def adapt(network: nn.Module, rank: int, alpha: float) -> list[LowRank]:
    """Adapters given, in place, to every linear and convolutional layer of a network."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    adapters = [LowRank(layer.weight, rank, alpha) for layer in layers]
    for layer, adapter in zip(layers, adapters, strict=True):
        parametrize.register_parametrization(layer, "weight", adapter)
    return adapters
