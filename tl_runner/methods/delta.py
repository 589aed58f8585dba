"""DELTA: fine-tuning whose feature maps stay near those of the network that it started from, the more so where they matter.

Li, Xiong, Wang, Rao, Liu, Chen & Huan, "DELTA: DEep Learning Transfer using Feature Map with Attention for Convolutional Networks",
ICLR 2019, eq. 4-6: a channel's weight is by how much the loss of a linear probe rises when its filter is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.errors import ConfigError
from tl_runner.losses.regularisers import feature_map_distance
from tl_runner.methods.base import Batch, Losses, Passes, Phase, Setting, cross_entropy
from tl_runner.methods.lp_ft import LpFt

JUDGED = 256  # labelled images, at the most, that say what a channel is worth: they pass once for each


class Delta(LpFt):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``probe``, whose head judges the channels; ``finetune``.

    The maps are the outputs of the backbone's convolutional blocks, of those that are not frozen (of all its blocks, if none is
    convolutional).

    Args:
        attention: weigh the channels; false: all alike.

    Raises:
        ConfigError: every block is frozen.
    """

    weighed: Tensor

    def __init__(self, setting: Setting, *, attention: bool, **options: Any):
        super().__init__(setting, **options)
        self.attention = attention
        self.start_network = self.fresh("backbone", setting.make_backbone)
        if len(self.frozen) == len(self.blocks):
            raise ConfigError(["method=delta holds the maps of blocks that learn, and method.freeze leaves none."])
        names = [name for name in self.blocks if name not in self.frozen]
        with torch.no_grad():
            _, found = self.maps(self.encoder.eval(), last_of(self.blocks, names), torch.zeros(2, *setting.shape))
        spatial = [name for name, m in zip(names, found, strict=True) if m.ndim > 2] or names
        widths = [m.shape[1] for name, m in zip(names, found, strict=True) if name in spatial]
        self.watched, self.start_watched = last_of(self.blocks, spatial), last_of(self.start_network.blocks(), spatial)
        self.weights = nn.ParameterDict({str(i): nn.Parameter(torch.full((n,), 1 / n), requires_grad=False) for i, n in enumerate(widths)})
        self.register_buffer("weighed", torch.tensor(False))

    def tuned(self) -> list[Phase]:
        phases = super().tuned()
        for phase in phases:
            phase.each_epoch = self.weigh if self.attention else None
        phases[0].begin = self.keep_start
        return phases

    def keep_start(self) -> None:
        """The network that the maps are held to."""
        self.start_network.load_state_dict(self.encoder.state_dict())

    def maps(self, network: nn.Module, watched: dict[str, nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(features (B, d), the blocks' outputs (B, C, ...)) of images."""
        found: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda layer, given, out: found.append(out)) for layer in watched.values()]
        try:
            return network(x), found
        finally:
            for hook in hooks:
                hook.remove()

    def step(self, batch: Batch, progress: float) -> Losses:
        """batch.target.x and .y: labelled target images."""
        with torch.no_grad():
            _, start = self.maps(self.start_network, self.start_watched, batch.target.x)
        features, maps = self.maps(self.encoder, self.watched, batch.target.x)
        distances = [feature_map_distance(*pair) for pair in zip(maps, start, self.weights.values(), strict=True)]
        return {
            "cross_entropy": cross_entropy(self.head(features), [batch.target], self.finetune["label_smoothing"]),
            "delta": self.alpha * torch.stack(distances).sum(),
            "l2": self.beta / 2 * self.head.weight.square().sum(),
        }

    @torch.no_grad()
    def weigh(self, passes: Passes) -> dict[str, Tensor]:
        """Once, as the first epoch begins: eq. 5, a softmax over a block's channels of what the loss gains without each."""
        if self.weighed:
            return {}
        y = passes.labels("target", JUDGED)
        before = F.cross_entropy(passes(self, "target", JUDGED), y)
        for layer, weights in zip(self.watched.values(), self.weights.values(), strict=True):
            rises = []
            for channel in range(len(weights)):
                with without(layer, channel):
                    rises.append(F.cross_entropy(passes(self, "target", JUDGED), y) - before)
            weights.copy_(torch.stack(rises).softmax(0))
        self.weighed.fill_(True)
        return {}


def last_of(blocks: Mapping[str, Sequence[nn.Module]], names: Sequence[str]) -> dict[str, nn.Module]:
    """The last layer of each of these blocks, what only flattens left out."""
    return {name: [unit for unit in blocks[name] if not isinstance(unit, nn.Flatten)][-1] for name in names}


@contextmanager
def without(layer: nn.Module, channel: int) -> Iterator[None]:
    """One channel of a layer's output is 0."""

    def silence(layer: nn.Module, given: tuple, out: Tensor) -> Tensor:
        return out.index_fill(1, torch.tensor([channel], device=out.device), 0.0)

    hook = layer.register_forward_hook(silence)
    try:
        yield
    finally:
        hook.remove()
