"""Layers of a network by their paths: their outputs, seen while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tl_runner.errors import nearest


@dataclass(frozen=True)
class Seen:
    """Outputs of a network for a batch.

    Attributes:
        logits: (B, K).
        features: what its head reads, (B, d).
        layers: outputs of the layers that are watched, by path.
    """

    logits: Tensor
    features: Tensor
    layers: Mapping[str, Tensor]

    def last(self, n: int) -> Seen:
        """Outputs for the last ``n`` images."""
        return Seen(
            self.logits[-n:],
            self.features[-n:],
            {path: out[-n:] for path, out in self.layers.items()},
        )


class Watched:
    """A classifier whose inner layers are looked at as it runs.

    Args:
        predict: images (B, C, H, W) to logits (B, K), through ``encoder``.
        encoder: the layers' paths are in it.
        paths: of the layers.
    """

    def __init__(
        self, predict: Callable[[Tensor], Tensor], encoder: nn.Module, paths: Sequence[str] = ()
    ):
        self.predict, self.encoder, self.looking = predict, encoder, False
        self.found: dict[str, Tensor] = {}
        self.overwritten = any(getattr(layer, "inplace", False) for layer in encoder.modules())
        for path in ("", *paths):
            encoder.get_submodule(path).register_forward_hook(partial(self._keep, path))

    def _keep(self, path: str, layer: nn.Module, given: Any, out: Tensor) -> None:
        if self.looking:
            # the next layer may work in place
            self.found[path] = out.clone() if self.overwritten else out

    def __call__(self, x: Tensor) -> Seen:
        """One pass of images (B, C, H, W)."""
        self.looking, self.found = True, {}
        try:
            logits = self.predict(x)
        finally:
            self.looking = False
        found, self.found = self.found, {}
        return Seen(logits, found.pop("").flatten(1), found)


@torch.no_grad()
def outputs(network: nn.Module, shape: Sequence[int]) -> dict[str, Tensor]:
    """Output of each layer of a network for two images of noise, by path.

    In the order in which the layers are done.

    Args:
        network: stays as it is.
        shape: (C, H, W) of the images.
    """
    found: dict[str, Tensor] = {}

    def keep(path: str, layer: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            found.pop(path, None)
            found[path] = out.clone()  # the next layer may work in place

    hooks = [
        layer.register_forward_hook(partial(keep, path))
        for path, layer in network.named_modules()
        if path
    ]
    first = next(network.parameters(), torch.empty(0))
    with looked_at(network, hooks):
        network(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(first))
    return found


@contextmanager
def looked_at(network: nn.Module, hooks: Sequence[RemovableHandle]) -> Iterator[None]:
    """Keep a network in eval mode; afterwards it is without the hooks and as it was."""
    modes = {layer: layer.training for layer in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes.items():
            layer.training = training


def with_shapes(found: Mapping[str, Tensor]) -> str:
    """Layers with the shapes of their outputs, as text: ``layers.0 (20, 24, 24)``."""
    return ", ".join(f"{path} {tuple(out.shape[1:])}" for path, out in found.items())


def missing(side: str, paths: Sequence[str], found: Mapping[str, Tensor]) -> list[str]:
    """Messages for paths that are no layer's."""
    return [
        f"method.{side}_layers: the {side} has no layer {path}.{nearest(path, found)} It has "
        f"{with_shapes(found)}."
        for path in paths
        if path not in found
    ]


def maps_of_each_size(found: Mapping[str, Tensor]) -> dict[tuple[int, int], str]:
    """Last layer that gives maps (B, C, H, W) of each size, by (height, width).

    Maps of several channels; a single pixel is no map.
    """
    sizes: dict[tuple[int, int], str] = {}
    for path, out in found.items():
        if out.ndim == 4 and out.shape[2] * out.shape[3] > 1:
            sizes[(out.shape[2], out.shape[3])] = path
    return sizes


@torch.no_grad()
def parts(
    network: nn.Module, path: str, shape: Sequence[int]
) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """Weights that a layer's output depends on, and modules that it does not depend on.

    Found by a pass of two images.
    """
    used: list[nn.Module] = []
    reached: list[bool] = []

    def note(layer: nn.Module, given: Any) -> None:
        if not reached:
            used.append(layer)

    hooks = [layer.register_forward_pre_hook(note) for layer in network.modules()]
    hooks.append(
        network.get_submodule(path).register_forward_hook(
            lambda layer, given, out: reached.append(True)
        )
    )
    with looked_at(network, hooks):
        network(torch.zeros(2, *shape).to(next(network.parameters())))
    weights = list(dict.fromkeys(p for layer in used for p in layer.parameters(recurse=False)))
    return weights, [layer for layer in network.modules() if layer not in used]
