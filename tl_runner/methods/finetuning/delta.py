"""DELTA: fine-tuning whose feature maps stay near those of the network that it started from, the
more so where they matter.

Li, Xiong, Wang, Rao, Liu, Chen & Huan, "DELTA: DEep Learning Transfer using Feature Map with
Attention for Convolutional Networks", ICLR 2019, eq. 4-6: a channel's weight is by how much the
loss of a linear probe rises when its filter is taken out.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.backbones._inner_layers import Watched, outputs
from tl_runner.errors import ConfigError
from tl_runner.losses.regularisers import feature_map_distance
from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting

# labelled images, at the most, that a channel is weighed by: they pass once for each
JUDGED = 256


class Delta(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0; ``probe``, whose head judges the
    channels; ``finetune``.

    The maps are the outputs of the backbone's convolutional blocks, of those that are not frozen
    (of all its blocks, if none is convolutional).

    Args:
        pretrain, new_head: of the source's network.
        probe: lengths and optimiser.
        attention: weigh the channels; false: all alike.
        alpha: of the feature maps' distance.
        beta: of the head's plain L2 penalty (beta / 2 ||w||^2).
        regulariser: null, since DELTA is one itself.
        tuning: of :class:`Tuning`.

    Raises:
        ConfigError: every block is frozen, or there is another regulariser.
    """

    weighed: Tensor

    def __init__(
        self,
        setting: Setting,
        *,
        pretrain: Mapping[str, Any],
        new_head: bool | None,
        probe: Mapping[str, Any],
        attention: bool,
        alpha: float,
        beta: float,
        regulariser: str | None = None,
        **tuning: Any,
    ):
        super().__init__(setting, pretrain=pretrain, new_head=new_head)
        self.probe_options, self.attention = probe, attention
        self.alpha, self.beta = alpha, beta
        self.tuning = Tuning(self, **tuning)
        self.start_network = self.fresh("backbone", setting.make_backbone)
        if regulariser is not None:
            raise ConfigError(
                [
                    f"method.regulariser={regulariser}: method=delta is a regulariser itself. Set "
                    "it to null, or take method=lp_ft."
                ]
            )
        if len(self.tuning.frozen) == len(self.tuning.blocks):
            raise ConfigError(
                ["method=delta holds the maps of blocks that learn, and method.freeze leaves none."]
            )
        paths = {layer: path for path, layer in self.encoder.named_modules()}
        lasts = [
            paths[last_of(units)]
            for name, units in self.tuning.blocks.items()
            if name not in self.tuning.frozen
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

    def phases(self) -> list[Phase]:
        probe = self.probe("probe", self.probe_options)
        tuned = self.tuning.phases(self.step, each_epoch=self.weigh if self.attention else None)
        tuned[0].hooks.begin = self.keep_start
        return self.after_pretraining(probe, *tuned)

    def keep_start(self) -> None:
        """Keep the network whose maps are the goal; called once, as fine-tuning begins."""
        self.start_network.load_state_dict(self.encoder.state_dict())

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images, the maps' distance (eq. 4) and the head's L2."""
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
                seen.logits, [batch.target], self.tuning.options["label_smoothing"]
            ),
            "delta": self.alpha * torch.stack(distances).sum(),
            "l2": self.beta / 2 * self.head.weight.square().sum(),
        }

    @torch.no_grad()
    def weigh(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Weigh the channels, once, as the first epoch begins.

        A block's weights are the softmax over its channels of how much the loss rises without each
        (eq. 5).
        """
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
    """The last layer of a block, apart from flattening."""
    return [unit for unit in units if not isinstance(unit, nn.Flatten)][-1]


@contextmanager
def without(layer: nn.Module, channel: int) -> Iterator[None]:
    """Set one channel of a layer's output to 0 inside."""

    def silence(layer: nn.Module, given: tuple, out: Tensor) -> Tensor:
        return out.index_fill(1, torch.tensor([channel], device=out.device), 0.0)

    hook = layer.register_forward_hook(silence)
    try:
        yield
    finally:
        hook.remove()
