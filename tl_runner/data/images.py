"""Images of one domain brought to the shape of another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.data.splits import Split

CHUNK = 4096  # images that are float at once
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def fitted(split: Split, size: int, channels: int) -> Split:
    """Split with its images brought to (channels, size, size).

    Those that have that shape already are not touched.
    """
    shape = (channels, size, size)
    return (
        split
        if split.x.shape[1:] == shape
        else replace(split, x=torch.cat([fit(x, shape) for x in split.x.split(CHUNK)]))
    )


def fit(x: Tensor, shape: Sequence[int]) -> Tensor:
    """uint8 images (N, C, H, W) brought to uint8 (N, *shape).

    RGB becomes grey by its luma, the size changes bilinearly, grey is repeated.

    What is shrunk is averaged over the pixels that it takes in (antialiased), as PIL does. Values
    are rounded once, at the end.
    """
    channels, *size = shape
    if x.shape[1:] == tuple(shape):
        return x
    grey = channels == 1 and x.shape[1] == 3
    values = (
        torch.einsum("nchw,c->nhw", x.float(), torch.tensor(LUMA))[:, None] if grey else x.float()
    )
    if values.shape[2:] != tuple(size):
        shrunk = values.shape[2] > size[0]
        values = F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=shrunk)
    return values.round_().clamp_(0, 255).to(torch.uint8).expand(-1, channels, -1, -1).contiguous()
