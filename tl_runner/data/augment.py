"""Random affine views of whole batches, on whatever device the batch lives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """The ranges of a random affine map; each image draws its own.

    Attributes:
        rotate: degrees, uniform in [-rotate, rotate].
        translate: fraction of the image side, uniform in [-translate, translate] for x and y.
        scale: log-uniform in [1 / (1 + scale), 1 + scale], one factor for both axes.
        stretch: as ``scale``, but of the width against the height.
        shear: degrees, uniform in [-shear, shear].
    """

    rotate: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0

    def __bool__(self) -> bool:
        return any((self.rotate, self.translate, self.scale, self.stretch, self.shear))

    def theta(self, n: int, generator: torch.Generator | None, device: torch.device | None = None) -> Tensor:
        """``n`` random maps from output to input coordinates, float32 (n, 2, 3), as ``affine_grid`` takes them."""
        u = torch.rand(n, 6, generator=generator, device=device).mul_(2).sub_(1)
        angle = u[:, 0] * math.radians(self.rotate)
        shear = torch.tan(u[:, 1] * math.radians(self.shear))
        scale = torch.exp(-u[:, 2] * math.log1p(self.scale))
        stretch = torch.exp(-0.5 * u[:, 3] * math.log1p(self.stretch))
        cos, sin, wide, high = angle.cos(), angle.sin(), scale * stretch, scale / stretch
        # rows of rotation @ [[1, shear], [0, 1]] @ diag(wide, high); 2x since coordinates run over [-1, 1]
        rows: tuple[Tensor, ...] = (cos * wide, (cos * shear - sin) * high, u[:, 4] * 2 * self.translate)
        rows += (sin * wide, (sin * shear + cos) * high, u[:, 5] * 2 * self.translate)
        return torch.stack(rows, dim=1).view(n, 2, 3)

    def __call__(self, x: Tensor, generator: torch.Generator | None, part: int = 0, parts: int = 1) -> Tensor:
        """A random view of each image of ``x``, float (B, C, H, W); what comes in from outside is 0.

        ``x`` is part number ``part`` of a batch in ``parts`` equal ones: the maps of the whole batch are drawn, so that its
        views are the same however it is cut.
        """
        n = len(x)
        theta = self.theta(n * parts, generator, x.device)[part * n : (part + 1) * n].to(x.dtype)
        return warp(x, theta, x.shape[-2:])


def warp(x: Tensor, theta: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear samples of ``x`` (B, C, H, W) under ``theta`` (B, 2, 3), as (B, C, *size)."""
    grid = F.affine_grid(theta, [len(x), x.shape[1], *size], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
