"""A multilayer perceptron, for feature vectors or small images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from tl_runner.backbones._base import Backbone


class MLP(Backbone):
    """Inputs (B, C, H, W), flattened, to ReLU features (B, ``hidden[-1]``).

    Args:
        hidden: widths of the layers.
        batch_norm: after each linear layer.
        dropout: after each of them; the last one's is of the features.
        input_dropout: of the inputs.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        hidden: Sequence[int],
        batch_norm: bool,
        dropout: float,
        input_dropout: float,
    ):
        super().__init__()
        widths = [prod(shape), *hidden]
        self.out_features = widths[-1]
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(input_dropout)]
        for i, o in pairwise(widths):
            layers += [
                nn.Linear(i, o),
                *([nn.BatchNorm1d(o)] if batch_norm else []),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
