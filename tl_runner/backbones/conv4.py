"""Conv-4, the network of the few-shot papers: four convolutions of 64 filters.

Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, section 4.1.1, with
pooling; with strides instead, Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.errors import ConfigError

HALVED = 4  # times


class Conv4(Backbone):
    """Images (B, C, H, W) to features (B, ``filters``).

    The mean over what is left of the image; of 28x28 with pooling that is one pixel.

    Args:
        filters: of each convolution.
        pool: each is followed by max pooling; false: each has stride 2.
        batch_norm: after each convolution, which then has no bias of its own: batch norm would take
            it off again.

    Raises:
        ConfigError: the images are too small to be halved four times by pooling.
    """

    def __init__(self, shape: tuple[int, int, int], *, filters: int, pool: bool, batch_norm: bool):
        super().__init__()
        channels, high, wide = shape
        if pool and min(high, wide) < 2**HALVED:
            raise ConfigError(
                [
                    f"backbone=conv4 pools images of at least {2**HALVED}x{2**HALVED}, not "
                    f"{high}x{wide}: backbone.pool=false."
                ]
            )
        self.out_features = filters
        layers: list[nn.Module] = []
        for i in range(HALVED):
            layers.append(
                nn.Conv2d(
                    filters if i else channels, filters, 3, 1 if pool else 2, 1, bias=not batch_norm
                )
            )
            layers += [nn.BatchNorm2d(filters)] if batch_norm else []
            layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))
