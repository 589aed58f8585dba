"""ResNet-20 for small pictures: three stages of three blocks, global average pooling.

The stages have 16, 32 and 64 filters.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with
shortcuts of option A: what a stage adds in filters is zeros, so that there are 0.27 million
parameters.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.backbones._base import Backbone

STAGES, BLOCKS = (16, 32, 64), 3


class ResNet20(Backbone):
    """Images (B, C, H, W) to features (B, 64)."""

    def __init__(self, shape: tuple[int, int, int], *, dropout: float):
        super().__init__()
        self.out_features = STAGES[-1]
        self.stem = nn.Sequential(
            _convolution(shape[0], STAGES[0], 1), nn.BatchNorm2d(STAGES[0]), nn.ReLU()
        )
        before = (STAGES[0], *STAGES)
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(
                *(
                    Residual(before[s] if not b else width, width, 2 if s and not b else 1)
                    for b in range(BLOCKS)
                )
            )
            for s, width in enumerate(STAGES)
        )
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.dropout(x.mean((2, 3)))


class Residual(nn.Module):
    """Two 3x3 convolutions, each with batch norm, added to what came in (figure 2)."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        self.first, self.first_norm = _convolution(into, out, stride), nn.BatchNorm2d(out)
        self.second, self.second_norm = _convolution(out, out, 1), nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - into

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.relu(residual + F.pad(kept, (0, 0, 0, 0, 0, self.more)))


def _convolution(into: int, out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
