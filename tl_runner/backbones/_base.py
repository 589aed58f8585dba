"""What every backbone is, and how its batch norm tells two domains apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Backbone(nn.Module):
    """Images (B, C, H, W) to features (B, ``out_features``)."""

    out_features: int
    origin = ""  # where its first weights are from, in words
    bn = "separate"  # how its batch norm sees two domains
    # what it was made with: its name and the keys of its YAML
    options: Mapping[str, Any] = MappingProxyType({})

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)

    def blocks(self) -> dict[str, list[nn.Module]]:
        """Its modules by block, in the order of the forward pass, as freezing and rates by layer
        count them.

        A unit with weights begins a block, named by its path; norms and what has no weights belong
        to the one before, at the start to the first.
        Sequentials are looked into, any other module (a residual block, say) is one unit. Each
        module stands in one block.
        """
        found: dict[str, list[nn.Module]] = {}
        before: list[nn.Module] = []  # the first block
        for path, unit in _units(self):
            if any(True for _ in unit.parameters()) and not isinstance(unit, NORMS):
                found[path] = [*before, unit]
                before = []
            else:
                (next(reversed(found.values())) if found else before).append(unit)
        heads = {path.partition(".")[0] for path in found}
        return (
            {path.partition(".")[2]: units for path, units in found.items()}
            if len(heads) == 1
            else found
        )


def _units(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    children = [*network.named_children()]
    for name, child in children:
        if type(child) is nn.Sequential or (len(children) == 1 and [*child.children()]):
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


class DomainBatchNorm(nn.Module):
    """Batch norm with statistics, scale and shift of its own for source and target; ``domain`` says
    whose are in use.

    All sources share the one, all targets the other.

    Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR
    2019, section 3.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.source, self.target = norm, deepcopy(norm)
        self.domain = "source"

    def forward(self, x: Tensor) -> Tensor:
        return self.target(x) if self.domain == "target" else self.source(x)


def norms_of(network: nn.Module) -> list[_BatchNorm]:
    """Its batch-norm layers."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


NORMS = (_BatchNorm, DomainBatchNorm, nn.GroupNorm, nn.LayerNorm)


def by_domain(network: Backbone) -> Backbone:
    """The same network, each of its batch norms now a :class:`DomainBatchNorm`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, DomainBatchNorm(child))
    return network


def use_domain(network: nn.Module, domain: str) -> None:
    """Let the next forward passes use the batch norm of ``domain``: source or target."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.domain = domain


def target_from_source(network: nn.Module) -> None:
    """Start the target's batch norm where the source's stands."""
    for module in network.modules():
        if isinstance(module, DomainBatchNorm):
            module.target.load_state_dict(module.source.state_dict())
