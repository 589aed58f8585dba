"""DELTA: fine-tuning whose feature maps stay near those of the network that it started from, the
more so where they matter.

Li, Xiong, Wang, Rao, Liu, Chen & Huan, "DELTA: DEep Learning Transfer using Feature Map with
Attention for Convolutional Networks", ICLR 2019, eq. 4-6: a channel's weight is by how much the
loss of a linear probe rises when its filter is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.backbones._inner_layers import Watched, outputs
from tl_runner.errors import ConfigError
from tl_runner.losses.regularisers import feature_map_distance
from tl_runner.methods.base import Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses, SplitPasses
from tl_runner.methods.finetuning.lp_ft import LpFt
from tl_runner.methods.phases import Phase

# labelled images, at the most, that say what a channel is worth: they pass once for each
JUDGED = 256


class Delta(LpFt):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``probe``, whose head judges the
    channels; ``finetune``.

    The maps are the outputs of the backbone's convolutional blocks, of those that are not frozen
    (of all its blocks, if none is convolutional).

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
            raise ConfigError(
                ["method=delta holds the maps of blocks that learn, and method.freeze leaves none."]
            )
        paths = {layer: path for path, layer in self.encoder.named_modules()}
        lasts = [
            paths[last_of(units)] for name, units in self.blocks.items() if name not in self.frozen
        ]
        found = outputs(self.encoder, setting.shape)
        self.held = [path for path in lasts if found[path].ndim > 2] or lasts
        self.watched = Watched(self, self.encoder, self.held)
        self.start_watched = Watched(self.start_network, self.start_network, self.held)
        even = [torch.full((n,), 1 / n) for n in (found[path].shape[1] for path in self.held)]
        self.weights = nn.ParameterDict(
            {str(i): nn.Parameter(w, requires_grad=False) for i, w in enumerate(even)}
        )
        self.register_buffer("weighed", torch.tensor(False))

    def tuned(self) -> list[Phase]:
        phases = super().tuned()
        for phase in phases:
            phase.hooks.each_epoch = self.weigh if self.attention else None
        phases[0].hooks.begin = self.keep_start
        return phases

    def keep_start(self) -> None:
        """The network that the maps are held to."""
        self.start_network.load_state_dict(self.encoder.state_dict())

    def step(self, batch: Batch, progress: float) -> Losses:
        """batch.target.x and .y: labelled target images."""
        with torch.no_grad():
            start = self.start_watched(batch.target.x)
        seen = self.watched(batch.target.x)
        maps = ((seen.layers[path], start.layers[path]) for path in self.held)
        distances = [
            feature_map_distance(*pair, weights)
            for pair, weights in zip(maps, self.weights.values(), strict=True)
        ]
        return {
            "cross_entropy": cross_entropy(
                seen.logits, [batch.target], self.finetune["label_smoothing"]
            ),
            "delta": self.alpha * torch.stack(distances).sum(),
            "l2": self.beta / 2 * self.head.weight.square().sum(),
        }

    @torch.no_grad()
    def weigh(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Once, as the first epoch begins: eq. 5, a softmax over a block's channels of what the
        loss gains without each."""
        if self.weighed:
            return {}
        y = passes.labels("target", JUDGED)
        before = F.cross_entropy(passes(self, "target", JUDGED), y)
        for path, weights in zip(self.held, self.weights.values(), strict=True):
            layer = self.encoder.get_submodule(path)
            rises = []
            for channel in range(len(weights)):
                with without(layer, channel):
                    rises.append(F.cross_entropy(passes(self, "target", JUDGED), y) - before)
            weights.copy_(torch.stack(rises).softmax(0))
        self.weighed.fill_(True)
        return {}


def last_of(units: Sequence[nn.Module]) -> nn.Module:
    """The last layer of a block, what only flattens left out."""
    return [unit for unit in units if not isinstance(unit, nn.Flatten)][-1]


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
