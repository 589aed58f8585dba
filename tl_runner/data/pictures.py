"""Picture files of any kind as uint8 images of one size.

Decoded once, by worker processes, and kept in a file that is mapped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
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

SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
FORMAT = 1  # of the cache: a change of what a file becomes is another number
FEW = 500  # files that one process decodes sooner than workers start
AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Decoded files.

    Attributes:
        x: uint8 (N, C, S, S), mapped from the cache where there is one.
        unreadable: by position, why a file could not be read; its image is black.
        digest: SHA-256 of the content of all files, in their order.
    """

    x: Tensor
    unreadable: dict[int, str]
    digest: str


def decode(
    root: Path,
    files: Sequence[Path],
    *,
    size: int,
    channels: int,
    fit: str,
    workers: int,
    cache: Path | None,
) -> Pictures:
    """Every file as an image of (channels, size, size).

    From the cache if it has the files as they are now.

    Args:
        root: the folder that ``files`` lie in; the cache goes by their paths in it, sizes and
            times.
        fit: ``crop`` the middle square or ``stretch`` the whole picture.
        workers: processes that decode; 0 does it here.
        cache: the folder that keeps what was decoded; None keeps nothing.

    Raises:
        DataError: the cache cannot be written.
    """
    if cache is None:
        x = np.empty((len(files), channels, size, size), dtype=np.uint8)
        return Pictures(torch.from_numpy(x), *_fill(x, files, fit, workers))
    stamps = [(str(f.relative_to(root)), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([FORMAT, size, channels, fit, stamps]).encode()).hexdigest()[
        :32
    ]
    array, about = cache / f"{key}.npy", cache / f"{key}.json"
    with claimed(cache / f"{key}.lock"):  # the jobs of a sweep decode once, not each
        if not about.exists():
            _keep(array, about, files, channels, size, fit, workers)
    try:
        found: dict[str, Any] = json.loads(about.read_text())
        # private: nothing that is done to it reaches the file
        x = np.load(array, mmap_mode="c", allow_pickle=False)
        if x.shape != (len(files), channels, size, size) or x.dtype != np.uint8:
            raise ValueError(f"{x.dtype} {x.shape}")
        return Pictures(
            torch.from_numpy(x),
            {int(i): str(why) for i, why in found["unreadable"].items()},
            str(found["digest"]),
        )
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{array} is damaged ({error}). Delete it and {about.name}; the pictures are then "
            "decoded again."
        ) from error


def _keep(
    array: Path,
    about: Path,
    files: Sequence[Path],
    channels: int,
    size: int,
    fit: str,
    workers: int,
) -> None:
    """Decode into the file ``array``; ``about``, written last, says that it is whole."""
    try:
        array.parent.mkdir(parents=True, exist_ok=True)
        half = array.with_suffix(".tmp")
        x = np.lib.format.open_memmap(half, "w+", np.uint8, (len(files), channels, size, size))
        unreadable, digest = _fill(x, files, fit, workers)
        x.flush()
        half.rename(array)
        half.write_text(json.dumps({"digest": digest, "unreadable": unreadable}))
        half.rename(about)
    except OSError as error:
        raise DataError(
            f"the decoded pictures cannot be kept in {array.parent} ({error}). Point cache.dir "
            "elsewhere."
        ) from error


def _fill(
    x: np.ndarray, files: Sequence[Path], fit: str, workers: int
) -> tuple[dict[int, str], str]:
    """Decode into the rows of ``x``; (files that could not be read, digest of all content)."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    workers = min(workers, cores) if len(files) > FEW else 0
    # in a worker of a sweep joblib's would be the default, which cannot
    start = "fork" if sys.platform == "linux" else "spawn"
    decoder = _Decoder(files, x.shape[1], x.shape[2], fit)
    loader = DataLoader(
        decoder,
        AT_ONCE,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context=start if workers else None,
    )
    unreadable, digest = {}, hashlib.sha256()
    row = 0
    for batch in loader:
        for image, content, why in batch:
            x[row] = image
            digest.update(content)
            if why:
                unreadable[row] = why
            row += 1
    return unreadable, digest.hexdigest()


class _Decoder(Dataset):
    """(image, SHA-256 of the file, why it could not be read or "") by position."""

    def __init__(self, files: Sequence[Path], channels: int, size: int, fit: str):
        self.files, self.channels, self.size, self.fit = (
            [str(f) for f in files],
            channels,
            size,
            fit,
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[np.ndarray, bytes, str]:
        file = Path(self.files[position])
        try:
            content = hashlib.sha256(file.read_bytes()).digest()
            return picture(file, self.channels, self.size, self.fit), content, ""
        except Exception as error:  # PIL raises nearly any kind for a damaged file
            why = (
                "empty file"
                if file.exists() and not file.stat().st_size
                else " ".join(str(error).split()) or type(error).__name__
            )
            why = why.replace(repr(self.files[position]), "it").replace(self.files[position], "it")
            return np.zeros((self.channels, self.size, self.size), dtype=np.uint8), b"", why


def picture(file: Path, channels: int, size: int, fit: str) -> np.ndarray:
    """One file, of whatever mode and size, as uint8 (channels, size, size).

    It is turned as its EXIF says; transparent parts are white; of several frames the first counts;
    16 bits become 8 by their upper byte's scale; shrinking averages over the pixels that it takes
    in.
    """
    mode = "L" if channels == 1 else "RGB"
    with Image.open(file) as opened:
        if opened.format == "JPEG":
            # decodes at a half, a quarter, ... where that is still large enough
            opened.draft(mode, (size, size))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")):
            image = _of_wide_pixels(image)
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


def _of_wide_pixels(image: Image.Image) -> Image.Image:
    """Pixels of 16 or 32 bits, or floats, as 8 bits."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"pixels from {values.min():g} to {values.max():g}: save it with 8 or 16 bits"
        )
    top = (
        65535.0
        if image.mode.startswith("I;16") or values.max() > 255
        else 1.0
        if image.mode == "F" and values.max() <= 1
        else 255.0
    )
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
