"""Picture files of any kind as uint8 images of one size.

Decoded once, by worker processes, and kept in a file that is mapped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_runner.errors import DataError
from tl_runner.files import claimed

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
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners have; files of 16 hold any
TOO_MANY = "more than {most:,} pixels are not decoded: shrink it, or cut it into parts"
FORMAT = 2  # of the cache: a change of what a file becomes is another number
FEW = 500  # files that one process decodes sooner than workers start
AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Decoded files.

    Attributes:
        x: uint8 (N, C, S, S), mapped from the cache where there is one.
        unreadable: by position, why a file could not be read; its image is black.
        digest: SHA-256 of the content of all files, in their order.
        order: positions of the files by their content, which no name and no folder changes.
        wide: how many have more than 8 bits a pixel.
        scale: (low, high), the pixels of these that became 0 and 255; None without any.
    """

    x: Tensor
    unreadable: dict[int, str]
    digest: str
    order: Sequence[int] = ()
    wide: int = 0
    scale: tuple[float, float] | None = None


def decode(
    root: Path,
    files: Sequence[Path],
    *,
    size: int,
    channels: int,
    fit: str,
    workers: int,
    cache: Path | None,
    scale: Sequence[float] | None = None,
) -> Pictures:
    """Every file as an image of (channels, size, size).

    From the cache if it has the files as they are now.

    Args:
        root: the folder that ``files`` lie in; the cache goes by their paths in it, sizes and
            times.
        fit: ``crop`` the middle square or ``stretch`` the whole picture.
        workers: processes that decode; 0 does it here.
        cache: the folder that keeps what was decoded; None keeps nothing.
        scale: (low, high), the pixels of files of more than 8 bits that become 0 and 255, for all
            of them; None: by :func:`scale_of` what they hold together.

    Raises:
        DataError: the cache cannot be written; pixels are in no usual range.
    """
    if cache is None:
        x = np.empty((len(files), channels, size, size), dtype=np.uint8)
        return _pictures(x, _fill(x, root, files, fit, workers, scale))
    stamps = [(str(f.relative_to(root)), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    what = json.dumps([FORMAT, size, channels, fit, scale and [*scale], stamps])
    key = hashlib.sha256(what.encode()).hexdigest()[:32]
    array, about = cache / f"{key}.npy", cache / f"{key}.json"
    with claimed(cache / f"{key}.lock"):  # the jobs of a sweep decode once, not each
        if not about.exists():
            _keep(array, about, root, files, channels, size, fit, workers, scale)
    try:
        found: dict[str, Any] = json.loads(about.read_text())
        # private: nothing that is done to it reaches the file
        x = np.load(array, mmap_mode="c", allow_pickle=False)
        if x.shape != (len(files), channels, size, size) or x.dtype != np.uint8:
            raise ValueError(f"{x.dtype} {x.shape}")
        if sorted(found["order"]) != [*range(len(files))]:
            raise ValueError("order")
        return _pictures(x, found)
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{array} is damaged ({error}). Delete it and {about.name}; the pictures are then "
            "decoded again."
        ) from error


def _pictures(x: np.ndarray, about: Mapping[str, Any]) -> Pictures:
    """What was decoded, with what :func:`_fill` or its file says of it."""
    low_high = about["scale"]
    return Pictures(
        torch.from_numpy(x),
        {int(i): str(why) for i, why in about["unreadable"].items()},
        str(about["digest"]),
        [int(i) for i in about["order"]],
        int(about["wide"]),
        None if low_high is None else (float(low_high[0]), float(low_high[1])),
    )


def _keep(
    array: Path,
    about: Path,
    root: Path,
    files: Sequence[Path],
    channels: int,
    size: int,
    fit: str,
    workers: int,
    scale: Sequence[float] | None,
) -> None:
    """Decode into the file ``array``; ``about``, written last, says that it is whole."""
    try:
        array.parent.mkdir(parents=True, exist_ok=True)
        half = array.with_suffix(".tmp")
        x = np.lib.format.open_memmap(half, "w+", np.uint8, (len(files), channels, size, size))
        found = _fill(x, root, files, fit, workers, scale)
        x.flush()
        half.rename(array)
        half.write_text(json.dumps(found))
        half.rename(about)
    except OSError as error:
        raise DataError(
            f"the decoded pictures cannot be kept in {array.parent} ({error}). Point cache.dir "
            "elsewhere."
        ) from error


def _fill(
    x: np.ndarray,
    root: Path,
    files: Sequence[Path],
    fit: str,
    workers: int,
    scale: Sequence[float] | None,
) -> dict[str, Any]:
    """Decode into the rows of ``x``; what there is to say of the files, as JSON.

    Files of more than 8 bits wait until all are seen, and then have one scale.
    """
    unreadable: dict[int, str] = {}
    digests: list[bytes] = []
    ranges: dict[int, Range] = {}
    for row, (image, content, why, held) in enumerate(_each(files, x, fit, workers, None)):
        x[row] = image
        digests.append(content)
        if why:
            unreadable[row] = why
        if held:
            ranges[row] = held
    if ranges:
        scale = tuple(scale) if scale else scale_of(root, [*ranges.values()])
        rows = [*ranges]
        again = _each([files[i] for i in rows], x, fit, workers, (scale[0], scale[1]))
        for row, (image, *_) in zip(rows, again, strict=True):
            x[row] = image
    return {
        "digest": hashlib.sha256(b"".join(digests)).hexdigest(),
        "order": sorted(range(len(files)), key=lambda i: (digests[i], i)),
        "unreadable": unreadable,
        "wide": len(ranges),
        "scale": [*scale] if ranges and scale else None,
    }


def _each(
    files: Sequence[Path],
    x: np.ndarray,
    fit: str,
    workers: int,
    scale: tuple[float, float] | None,
) -> Iterator[Decoded]:
    """Every file decoded, in order, by worker processes where there are many."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    workers = min(workers, cores) if len(files) > FEW else 0
    # in a worker of a sweep joblib's would be the default, which cannot
    start = "fork" if sys.platform == "linux" else "spawn"
    loader = DataLoader(
        _Decoder(files, x.shape[1], x.shape[2], fit, scale),
        AT_ONCE,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context=start if workers else None,
    )
    for batch in loader:
        yield from batch


@dataclass(frozen=True)
class Range:
    """What the pixels of a file of more than 8 bits are: floats or not, the least, the largest."""

    floats: bool
    low: float
    high: float


# (image, SHA-256 of the file, why it could not be read or "", its range where that is to be scaled)
Decoded = tuple[np.ndarray, bytes, str, Range | None]


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


class _Decoder(Dataset):
    """:data:`Decoded` by position."""

    def __init__(
        self,
        files: Sequence[Path],
        channels: int,
        size: int,
        fit: str,
        scale: tuple[float, float] | None,
    ):
        self.files, self.channels, self.size, self.fit, self.scale = (
            [str(f) for f in files],
            channels,
            size,
            fit,
            scale,
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Decoded:
        file = Path(self.files[position])
        black = np.zeros((self.channels, self.size, self.size), dtype=np.uint8)
        try:
            content = hashlib.sha256(file.read_bytes()).digest()
            found = picture(file, self.channels, self.size, self.fit, self.scale)
        except Exception as error:  # PIL raises nearly any kind for a damaged file
            why = (
                "empty file"
                if file.exists() and not file.stat().st_size
                else " ".join(str(error).split()) or type(error).__name__
            )
            why = why.replace(repr(self.files[position]), "it").replace(self.files[position], "it")
            return black, b"", why, None
        if isinstance(found, Range):
            return black, content, "", found
        return found, content, "", None


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
            opened = Image.open(file)
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
