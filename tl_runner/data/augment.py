"""Random views of whole batches, on whatever device the batch lives.

torchvision's v2 transforms draw once for a batch; here each image draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.data.images import LUMA

DRAWS = 10  # numbers that the view of an image is drawn by: six of its map, four of the rest

# a number of draws to so many of each image, float32 (B, n) uniform in [0, 1)
Drawn = Callable[[int], Tensor]


@dataclass(frozen=True)
class Affine:
    """Ranges of a random affine map; each image draws its own.

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

    def theta(
        self, n: int, generator: torch.Generator | None, device: torch.device | None = None
    ) -> Tensor:
        """Random maps from output to input coordinates, float32 (n, 2, 3).

        As ``affine_grid`` takes them.
        """
        return self.maps(torch.rand(n, 6, generator=generator, device=device))

    def maps(self, u: Tensor) -> Tensor:
        """The maps that numbers (n, 6) in [0, 1) stand for."""
        n, u = len(u), u.mul(2).sub_(1)
        angle = u[:, 0] * math.radians(self.rotate)
        shear = torch.tan(u[:, 1] * math.radians(self.shear))
        scale = torch.exp(-u[:, 2] * math.log1p(self.scale))
        stretch = torch.exp(-0.5 * u[:, 3] * math.log1p(self.stretch))
        cos, sin, wide, high = angle.cos(), angle.sin(), scale * stretch, scale / stretch
        # rows of rotation @ [[1, shear], [0, 1]] @ diag(wide, high); 2x since coordinates run over
        # [-1, 1]
        rows: tuple[Tensor, ...] = (
            cos * wide,
            (cos * shear - sin) * high,
            u[:, 4] * 2 * self.translate,
        )
        rows += (sin * wide, (sin * shear + cos) * high, u[:, 5] * 2 * self.translate)
        return torch.stack(rows, dim=1).view(n, 2, 3)

    def __call__(
        self, x: Tensor, generator: torch.Generator | None, part: int = 0, parts: int = 1
    ) -> Tensor:
        """Random view of each image of ``x``, float (B, C, H, W); outside of an image is 0.

        ``x`` is part number ``part`` of a batch in ``parts`` equal ones: the maps of the whole
        batch are drawn, so that its views are the same however it is cut.
        """

        def drawn(count: int) -> Tensor:
            u = torch.rand(len(x) * parts, count, generator=generator, device=x.device)
            return u[part * len(x) : (part + 1) * len(x)]

        return self.view(x, drawn)

    def seeded(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Random view of each image of ``x``, float (B, C, H, W), by the image's own seed alone."""
        generator = torch.Generator()
        rows = [torch.rand(DRAWS, generator=generator.manual_seed(seed)) for seed in seeds]
        left = torch.stack(rows).to(x.device)

        def drawn(count: int) -> Tensor:
            nonlocal left
            u, left = left[:, :count], left[:, count:]
            return u

        return self.view(x, drawn)

    def view(self, x: Tensor, drawn: Drawn) -> Tensor:
        """The views of images (B, C, H, W) that some numbers stand for."""
        return warp(x, self.maps(drawn(6)).to(x.dtype), x.shape[-2:])


@dataclass(frozen=True)
class Views(Affine):
    """Affine views, mirrored by chance, of other colours.

    Attributes:
        flip: probability that left and right change places.
        brightness, contrast, saturation: factors uniform in [1 - v, 1 + v]: of the pixels, of their
            distance from the image's mean grey, and of that from their own grey, as torchvision's
            ColorJitter has them, in this order.
    """

    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __bool__(self) -> bool:
        return super().__bool__() or any(
            (self.flip, self.brightness, self.contrast, self.saturation)
        )

    def view(self, x: Tensor, drawn: Drawn) -> Tensor:
        if super().__bool__():
            x = super().view(x, drawn)

        def one() -> Tensor:
            """A number for each image."""
            return drawn(1).view(-1, 1, 1, 1).to(x.dtype)

        if self.flip:
            x = torch.where(one() < self.flip, x.flip(-1), x)
        if self.brightness:
            x = _blended(x, torch.zeros_like(x), one(), self.brightness)
        if self.contrast:
            x = _blended(x, grey(x).mean((1, 2, 3), keepdim=True), one(), self.contrast)
        if self.saturation and x.shape[1] == 3:
            x = _blended(x, grey(x), one(), self.saturation)
        return x


def grey(x: Tensor) -> Tensor:
    """The luma of images (B, C, H, W), as (B, 1, H, W)."""
    return torch.einsum("nchw,c->nhw", x, x.new_tensor(LUMA))[:, None] if x.shape[1] == 3 else x


def _blended(x: Tensor, other: Tensor, u: Tensor, most: float) -> Tensor:
    factor = 1 + (2 * u - 1) * most
    return (other + factor * (x - other)).clamp(0, 1)


def warp(x: Tensor, theta: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear samples of ``x`` (B, C, H, W) under ``theta`` (B, 2, 3), as (B, C, *size)."""
    grid = F.affine_grid(theta, [len(x), x.shape[1], *size], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
