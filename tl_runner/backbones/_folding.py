"""Batch norms that became part of the convolutions before them, for networks that only predict."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tl_runner.backbones._base import Backbone
from tl_runner.backbones._frozen import OnFrozen

TOLERANCE = 1e-4  # of the outputs' size: rounding in another order, and no more


@torch.inference_mode()
def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network in eval mode whose batch norms are folded into convolutions.

    A batch norm is folded where it was given just what a convolution put out, in one pass over an
    example. Where the copy then gives other outputs than by rounding (a convolution that
    standardises its weights, an output that is read twice), the network itself is returned.

    Args:
        network: is left as it is.
        example: a batch that it takes.
    """
    fast = _plain(copy.deepcopy(network)).eval()
    expected = fast(example)
    pairs = _pairs(fast, example)
    if not pairs:
        return network
    for (_, convolution), (path, norm) in pairs:
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        parent, _, name = path.rpartition(".")
        setattr(fast.get_submodule(parent), name, _rest(norm))
    gap = (fast(example) - expected).abs().max()
    return fast if bool(gap <= TOLERANCE * expected.abs().max()) else network


@torch.inference_mode()
def fold_backbones(method: nn.Module, network: Callable[[Tensor], Tensor], example: Tensor) -> None:
    """Fold, in place, the batch norms of the backbones that a function runs in eval mode.

    Args:
        method: has them among its modules, and is only asked for outputs from now on.
        network: the function.
        example: a batch that it takes.
    """
    seen: dict[Backbone, Tensor] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.setdefault(module, given[0])  # type: ignore[arg-type]

    handles = [
        module.register_forward_pre_hook(note)
        for module in method.modules()
        if isinstance(module, Backbone) and not isinstance(module, OnFrozen)
        if any(isinstance(part, _BatchNorm) for part in module.modules())
    ]
    if handles:
        network(example)
    for handle in handles:
        handle.remove()
    for backbone, given in seen.items():
        fast = folded(backbone, given)
        if fast is not backbone:
            for name, part in fast.named_children():
                setattr(backbone, name, part)


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Convolutions and the batch norms that were given their outputs, each module called once."""
    made: dict[int, tuple[Tensor, str, nn.Module]] = {}  # tensors are kept, so that no id returns
    pairs, calls = [], Counter[str]()
    handles = []

    def convolved(path: str, module: nn.Module, output: Tensor) -> None:
        calls[path] += 1
        made[id(output)] = (output, path, module)

    def normed(path: str, module: nn.Module, given: Tensor) -> None:
        calls[path] += 1
        if id(given) in made:
            pairs.append((made[id(given)][1:], (path, module)))

    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(lambda m, _, y, path=path: convolved(path, m, y))
            )
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(
                module.register_forward_hook(lambda m, x, _, path=path: normed(path, m, x[0]))
            )
    network(example)
    for handle in handles:
        handle.remove()
    return [pair for pair in pairs if all(calls[path] == 1 for path, _ in pair)]


def _plain(network: nn.Module) -> nn.Module:
    """The network with adapted weights in the place of weights and adapters, in place."""
    for module in [m for m in network.modules() if parametrize.is_parametrized(m)]:
        for name in [*module.parametrizations]:  # type: ignore[union-attr, misc]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return network


def _rest(norm: nn.Module) -> nn.Module:
    """What a batch norm does besides: timm's have an activation in them."""
    parts = [part for _, part in norm.named_children()]
    return nn.Sequential(*parts) if parts else nn.Identity()
