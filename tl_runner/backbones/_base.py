"""Backbone, the base class of every network that turns images into features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tl_runner.backbones._batch_norm import DomainBatchNorm
from tl_runner.backbones._pixels import Pixels

NORMS = (_BatchNorm, DomainBatchNorm, nn.GroupNorm, nn.LayerNorm)


class Backbone(nn.Module):
    """Images (B, C, H, W) to features (B, ``out_features``)."""

    out_features: int
    origin = ""  # where its first weights are from, in words
    unfilled: Sequence[str] = ()  # tensors that these did not have
    bn = "separate"  # how its batch norm sees two domains
    # what it was made with: its name and the keys of its YAML
    options: Mapping[str, Any] = MappingProxyType({})

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)

    def translate(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A file's tensors under the names and in the shapes of this network; as they are."""
        return weights

    def blocks(self) -> dict[str, list[nn.Module]]:
        """Modules of each block, in the order of the forward pass.

        Freezing and learning rates by layer count blocks. A unit with weights begins one, named by
        its path; norms and what has no weights belong to the block before, at the start to the
        first, and so do parameters outside of units (a transformer's class token). Sequentials and
        what holds a stack of like blocks are looked into, any other module (a residual block, say)
        is one unit. Each module stands in one block.
        """
        found: dict[str, list[nn.Module]] = {}
        before: list[nn.Module] = []  # the first block
        for path, unit in _units(self):
            begins = any(True for _ in unit.parameters())
            if begins and not isinstance(unit, (*NORMS, nn.ParameterList)):
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
    if own := [*network.parameters(recurse=False)]:
        yield prefix, nn.ParameterList(own)
    children = [(name, m) for name, m in network.named_children() if not isinstance(m, Pixels)]
    for name, child in children:
        alone = len(children) == 1 and [*child.children()]
        if type(child) in (nn.Sequential, nn.ModuleList) or alone or _holds_a_stack(child):
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _holds_a_stack(network: nn.Module) -> bool:
    """Whether it has a list of blocks of one kind, as a transformer's encoder has."""
    return any(
        isinstance(stack, nn.Sequential | nn.ModuleList)
        and len(stack) > 1
        and len({type(block) for block in stack}) == 1
        and not isinstance(stack[0], nn.Sequential)
        and any(True for _ in stack[0].children())
        for stack in network.children()
    )
