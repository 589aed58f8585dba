"""Batch norm that tells two domains apart."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

DOMAINS = ("source", "target")
Network = TypeVar("Network", bound=nn.Module)


def norms_of(network: nn.Module) -> list[_BatchNorm]:
    """Batch-norm layers of a network."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


class DomainBatchNorm(nn.Module):
    """Batch norm with statistics, scale and shift of its own for each domain.

    ``domain`` says whose are in use; all sources share one set, all targets the other.

    Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR
    2019, section 3.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.source, self.target = norm, deepcopy(norm)
        self.domain = "source"

    def forward(self, x: Tensor) -> Tensor:
        return self.target(x) if self.domain == "target" else self.source(x)


def with_norms(network: Network, make: Callable[[_BatchNorm], nn.Module]) -> Network:
    """The network itself, each of its batch norms replaced by what ``make`` makes of it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, make(child))
    return network


def by_domain(network: Network) -> Network:
    """The network itself, each of its batch norms replaced by a :class:`DomainBatchNorm`."""
    return with_norms(network, DomainBatchNorm)


def use_domain(network: nn.Module, domain: str) -> None:
    """Let the next forward passes use the batch norm of ``domain``.

    Raises:
        ValueError: ``domain`` is neither source nor target.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain={domain!r} should be one of {', '.join(DOMAINS)}.")
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


def target_from_source(network: nn.Module) -> None:
    """Start the target's batch norm where the source's stands."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.target.load_state_dict(module.source.state_dict())


def frozen_norms(encoder: nn.Module, bn: str) -> list[nn.Module]:
    """Layers of an adapting encoder whose statistics stay the source's: under ``frozen`` all norms.

    Args:
        bn: how batch norm sees the domains, ``backbone.bn``.
    """
    return [*norms_of(encoder)] if bn == "frozen" else []
