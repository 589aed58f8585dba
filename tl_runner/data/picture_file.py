"""One picture file, of whatever format and mode, as uint8 pixels of one size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tl_runner.errors import DataError

# single pictures that Pillow reads, by their usual suffixes
SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".cur",
    ".dds",
    ".dib",
    ".gif",
    ".icns",
    ".ico",
    ".j2c",
    ".j2k",
    ".jfif",
    ".jp2",
    ".jpc",
    ".jpe",
    ".jpeg",
    ".jpf",
    ".jpg",
    ".jpx",
    ".mpo",
    ".pbm",
    ".pcx",
    ".pfm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".psd",
    ".qoi",
    ".ras",
    ".sgi",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
    ".xbm",
    ".xpm",
)
COMMON = ".jpg, .png, .tif, .webp, ..."  # of these, for messages
FULL = {False: (0.0, 65535.0), True: (0.0, 1.0)}  # the range of whole numbers, and of floats
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners have; files of 16 hold any
TOO_MANY = "more than {most:,} pixels are not decoded: shrink it, or cut it into parts"


@cache
def formats() -> tuple[str, ...]:
    """Pillow's formats that have one of these suffixes, as ``Image.open`` takes them.

    A file of another format is no picture, whatever its name: Pillow starts Ghostscript for EPS.
    """
    known = Image.registered_extensions()
    found = {known[suffix] for suffix in SUFFIXES if suffix in known} & Image.OPEN.keys()
    # those that tell no file by its first bytes try every file, and come last
    return tuple(sorted(found, key=lambda name: (Image.OPEN[name][1] is None, name)))


@dataclass(frozen=True)
class Range:
    """What the pixels of a file of more than 8 bits are: floats or not, the least, the largest."""

    floats: bool
    low: float
    high: float

    def beyond(self) -> str:
        """Why the full range of the type, ``FULL``, does not hold them; empty where it does."""
        low, high = FULL[self.floats]
        if low <= self.low and self.high <= high:
            return ""
        kind = "floats" if self.floats else "whole numbers"
        return (
            f"its pixels go from {self.low:g} to {self.high:g}, and {kind} are taken from {low:g} "
            f"to {high:g}"
        )


def scale_of(root: Path, ranges: Sequence[Range]) -> tuple[float, float]:
    """One scale, (low, high), for all files of more than 8 bits in a folder.

    Whole numbers are of 8, 10, 12, 14 or 16 bits, the fewest that hold all; floats of 0 to 1, or of
    0 to 255 where the largest is above 127.

    Raises:
        DataError: they are neither, or of both kinds.
    """
    low, high = min(r.low for r in ranges), max(r.high for r in ranges)
    kinds = {r.floats for r in ranges}
    cure = "Say which pixels are black and white: data.range=[low,high]."
    held = f"{root}: pixels of {len(ranges):,} pictures go from {low:g} to {high:g}"
    if len(kinds) > 1:
        raise DataError(f"{held}, in files of floats and of whole numbers. {cure}")
    if low < 0:
        raise DataError(f"{held}, and below 0 there is no usual range. {cure}")
    if not kinds.pop():
        if high > 65535:
            raise DataError(f"{held}, beyond 16 bits. {cure}")
        return 0.0, float(2 ** next(bits for bits in BITS if high < 2**bits) - 1)
    if high <= 1:
        return 0.0, 1.0
    if not 127 < high <= 255:
        raise DataError(f"{held}: floats are usually of 0 to 1, or of 0 to 255. {cure}")
    return 0.0, 255.0


def picture(
    file: Path, channels: int, size: int, fit: str, scale: tuple[float, float] | None = None
) -> np.ndarray | Range:
    """One file, of whatever mode and size, as uint8 (channels, size, size).

    It is turned as its EXIF says; transparent parts are white; of several frames the first counts;
    shrinking averages over the pixels that it takes in. Of a file of more than 8 bits a pixel the
    range is returned where no ``scale`` is given, which becomes 0 and 255 else.

    Raises:
        ValueError: it has more pixels than Pillow decodes without a warning.
    """
    mode = "L" if channels == 1 else "RGB"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours says more
        try:
            opened = Image.open(file, formats=formats())
        except Image.DecompressionBombError as error:
            raise ValueError(TOO_MANY.format(most=Image.MAX_IMAGE_PIXELS)) from error
    with opened:
        most = Image.MAX_IMAGE_PIXELS
        if most and opened.width * opened.height > most:
            raise ValueError(TOO_MANY.format(most=most))
        if opened.format == "JPEG":
            # decodes at a half, a quarter, ... where that is still large enough
            opened.draft(mode, (size, size))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image).astype(np.float64)
            if not np.isfinite(values).all():
                raise ValueError("some pixels are NaN or infinite")
            if scale is None:
                return Range(image.mode == "F", float(values.min()), float(values.max()))
            image = of_wide_pixels(values, *scale)
        if image.has_transparency_data:
            image = Image.alpha_composite(
                Image.new("RGBA", image.size, "white"), image.convert("RGBA")
            )
        image = image.convert(mode)
    if image.size != (size, size):
        image = (
            ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            if fit == "crop"
            else image.resize((size, size))
        )
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def of_wide_pixels(values: np.ndarray, low: float, high: float) -> Image.Image:
    """Pixels of more than 8 bits as 8 bits: ``low`` and what is below black, ``high`` white."""
    return Image.fromarray(
        np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)
    )
