"""Characters in the fonts that matplotlib ships, and scikit-learn's digits. No download.

The printed ones are rendered at run time from the fonts that matplotlib ships; the others are
scikit-learn's copy of the UCI handwritten digits (1,797 images of 8x8, Alpaydin & Kaynak 1998),
resized into the middle of 28x28 as MNIST is.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.data.augment import Affine, warp
from tl_runner.data.splits import Split, hold_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACES = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
SIDE, BOX = 28, 20  # MNIST's geometry: a box of 20 pixels in the middle of 28
TEST_DIGITS = 597  # of the 1,797; a fixed split, the same for every seed


def font_files() -> list[Path]:
    """Fonts of matplotlib that have digits and letters, sorted by name."""
    from matplotlib import get_data_path

    fonts = sorted(Path(get_data_path(), "fonts", "ttf").glob("*.ttf"))
    return [f for f in fonts if f.name.startswith(FACES) and "Display" not in f.name]


@cache
def render(characters: str, side: int = 64) -> Tensor:
    """Every character in every face, each scaled so that its longer side fills the square.

    Returns float32 (faces, characters, side, side) in [0, 1], ink 1.
    """
    import numpy as np

    faces = [image for file in font_files() for image in render_in(file, characters, side)]
    return torch.from_numpy(np.stack([image for image in faces if image is not None])).view(
        -1, len(characters), side, side
    )


def render_in(file: Path, characters: str, side: int) -> list[NDArray | None]:
    """Characters in one face, float32 (side, side) each in [0, 1], ink 1.

    None for one that leaves no ink.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(file), 2 * side)
    found: list[NDArray | None] = []
    for character in characters:
        left, top, right, bottom = (round(v) for v in font.getbbox(character))
        w, h = right - left, bottom - top
        if min(w, h) < 1:
            found.append(None)
            continue
        image = Image.new("L", (max(w, h),) * 2)
        corner = ((max(w, h) - w) // 2 - left, (max(w, h) - h) // 2 - top)
        ImageDraw.Draw(image).text(corner, character, fill=255, font=font)
        found.append(
            np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255
        )
    return found


def jittered(glyphs: Tensor, jitter: Affine, generator: torch.Generator) -> Tensor:
    """Random view of each glyph, float (N, S, S), as uint8 (N, 1, 28, 28)."""
    return draw_views(glyphs, jitter.theta(len(glyphs), generator))


def draw_views(glyphs: Tensor, theta: Tensor) -> Tensor:
    """View of each glyph, float (N, S, S), under an affine map (N, 2, 3).

    In the middle of an image, uint8 (N, 1, 28, 28).
    """
    theta = theta.clone()
    theta[:, :, :2] *= SIDE / BOX  # the glyph's own square fills the box, not the image
    theta[:, :, 2] *= SIDE / BOX
    # twice the size, then averaged: sampling a 64-pixel glyph at 28 points would alias thin strokes
    views = F.avg_pool2d(warp(glyphs[:, None], theta, (2 * SIDE, 2 * SIDE)), 2)
    return views.mul_(255).round_().to(torch.uint8)


def font_digits(per_face: int, jitter: Affine, generator: torch.Generator) -> Split:
    """``per_face`` jittered images of each digit in each face, labelled."""
    digits, state = _font_digits(per_face, jitter, generator.get_state().numpy().tobytes())
    generator.set_state(state)
    return digits


@lru_cache(maxsize=4)  # the jobs of a sweep mostly have the same
def _font_digits(per_face: int, jitter: Affine, state: bytes) -> tuple[Split, Tensor]:
    """The same from a generator's state, and the state that it is left in."""
    generator = torch.Generator()
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    glyphs = render("0123456789")
    faces, classes = glyphs.shape[:2]
    y = torch.arange(classes).repeat(faces).repeat_interleave(per_face)
    x = jittered(glyphs.flatten(0, 1).repeat_interleave(per_face, dim=0), jitter, generator)
    return Split(x, y, torch.arange(len(x))), generator.get_state()


@cache
def handwritten_digits() -> Split:
    """scikit-learn's 1,797 digits in the middle of 28x28, with their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    x = F.interpolate(x, (BOX, BOX), mode="bilinear", align_corners=False)
    x = F.pad(x, ((SIDE - BOX) // 2,) * 4).mul_(255).round_().to(torch.uint8)
    return Split(x, torch.tensor(data.target), torch.arange(len(x)))


def handwritten_split() -> tuple[Split, Split]:
    """The handwritten digits as 1,200 training and 597 test images, the same for every seed."""
    digits = handwritten_digits()
    rest, test = hold_out(
        len(digits), TEST_DIGITS / len(digits), torch.Generator().manual_seed(1998)
    )
    return digits.take(rest), digits.take(test)
