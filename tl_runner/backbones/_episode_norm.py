"""Batch norm in few-shot tasks: by the statistics of a task's own images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tl_runner.backbones._batch_norm import Network, with_norms


class EpisodeNorm(nn.Module):
    """Batch norm by the statistics of the batch itself, in training and in evaluation.

    So a task's query images are seen together (transductive), as in Finn et al.'s code. Inside
    :func:`as_support` the statistics are those of the first batch, the support set.
    """

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.noting = False
        # mean and 1 / deviation, (1, C, 1, ...) each
        self.noted: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...)."""
        # by hand: under vmap with a scale of each task's own, the gradient of torch 2.15's
        # batch_norm through its backward is wrong
        over, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        kind, x = x.dtype, x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        if self.noted is None:
            mean = x.mean(over, keepdim=True)
            centred = x - mean
            inverse = (centred.square().mean(over, keepdim=True) + self.eps).rsqrt()
            if self.noting:
                self.noted = mean, inverse
        else:
            mean, inverse = self.noted
            centred = x - mean
        return (centred * (self.weight.view(shape) * inverse) + self.bias.view(shape)).to(kind)


def episodic(network: Network) -> Network:
    """The network itself, each of its batch norms replaced by an :class:`EpisodeNorm`."""
    return with_norms(network, EpisodeNorm)


@contextmanager
def as_support(network: nn.Module) -> Iterator[None]:
    """Normalise by the statistics of the first forward pass inside, which is the support set's."""
    norms = [m for m in network.modules() if isinstance(m, EpisodeNorm)]
    for norm in norms:
        norm.noting = True
    try:
        yield
    finally:
        for norm in norms:
            norm.noting, norm.noted = False, None
