"""Batch norm in few-shot tasks: by the statistics of the images at hand, or by those of the task's support set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tl_runner.backbones.base import Backbone

KINDS = ("transductive", "support")


class EpisodeNorm(nn.Module):
    """Batch norm without running statistics: those of the batch, always; or inside :func:`as_support`, those of a batch before it.

    With the batch's own, the query images of a task are seen together (transductive), in training and in test: Finn et al.'s code.
    """

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.noting = False
        self.noted: tuple[Tensor, Tensor] | None = None  # mean and variance, (C,) each

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...)."""
        if self.noted is None and not self.noting:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        if self.noted is None:
            var, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
            self.noted = mean, var
        mean, var = self.noted
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)


def episodic(network: Backbone) -> Backbone:
    """The same network, each of its batch norms now an :class:`EpisodeNorm`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, EpisodeNorm(child))
    return network


@contextmanager
def as_support(network: nn.Module) -> Iterator[None]:
    """The first pass inside is the support set's: later ones are normalised by its statistics."""
    norms = [m for m in network.modules() if isinstance(m, EpisodeNorm)]
    for norm in norms:
        norm.noting = True
    try:
        yield
    finally:
        for norm in norms:
            norm.noting, norm.noted = False, None
