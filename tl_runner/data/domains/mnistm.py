"""MNIST-M: MNIST's digits blended over patches of photographs, made here from both.

Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, section 4; Ganin
et al., JMLR 2016, section 5.2.4: I_out = |I_digit - I_patch|, channel by channel, the patches taken
at random from BSDS500. The digits keep their grey values. The draw is the same for every run; it is
not the authors' own, whose files hold other patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tl_runner.data.domain import Domain, Stamp, read_once, stamp, torchvision_datasets
from tl_runner.data.domains.mnist import MNIST
from tl_runner.data.picture_file import formats
from tl_runner.data.splits import Split
from tl_runner.errors import DataError

SIDE = 28
SEED = 2015
FIFTH = 5
# what PIL raises for a damaged file
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
CURE = (
    "  Put BSDS500 there "
    "(www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html),\n"
    "  or point data.photos at any folder of colour photographs;\n"
    "  or run data=fonts2digits, which needs no download."
)


class Photo(NamedTuple):
    """An image file and its size in pixels."""

    path: Path
    high: int
    wide: int


class MNISTM(Domain):
    """MNIST-M's digits, (N, 3, 28, 28).

    ``photos`` is the folder of the photographs, searched with all that it holds.

    Photographs in a folder named ``train`` or ``val`` serve the training digits, those in ``test``
    the test digits, as in BSDS500. Where the two are not there, every fifth photograph in the order
    of the names serves the test digits.
    """

    title = "MNIST-M"

    def __init__(self, photos: str):
        self.photos = Path(photos).expanduser()

    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        *_, checksums = MNIST().read(root, download, seed)
        train, test, digest = made(
            root, stamp(MNIST.find(root, download)), self.photos, stamp(find(self.photos))
        )
        return train, test, {**checksums, "photos": digest}


@cache
def made(root: Path, digits: Stamp, folder: Path, files: Stamp) -> tuple[Split, Split, str]:
    """Training and test images, and SHA-256 over the photographs.

    Made once by the runs of a process until a file changes.
    """
    photos, digest = measure(folder, [Path(path) for path, _, _ in files])
    generator = torch.Generator().manual_seed(SEED)
    train, test = (
        Split(blend(part.x, some, generator), part.y, part.ids)
        for part, some in zip(read_once(MNIST, root, digits), divide(folder, photos), strict=True)
    )
    return train, test, digest


def find(folder: Path) -> list[Path]:
    """Image files below ``folder``, by name."""
    if not folder.is_dir():
        raise DataError(
            f"MNIST-M is made of MNIST and photographs: data.photos={folder} is no folder.\n{CURE}"
        )
    kinds = torchvision_datasets().folder.IMG_EXTENSIONS
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds and p.is_file())
    if not files:
        raise DataError(
            f"MNIST-M: data.photos={folder} holds no photograph ({', '.join(kinds)}).\n{CURE}"
        )
    return files


def measure(folder: Path, files: Sequence[Path]) -> tuple[list[Photo], str]:
    """Photographs that a patch fits into, and a SHA-256 over their names and content.

    Nothing is decoded yet.
    """
    photos, digest, small = [], hashlib.sha256(), 0
    for file in files:
        try:
            content = file.read_bytes()
            with Image.open(BytesIO(content), formats=formats()) as image:
                wide, high = image.size
        except UNREADABLE:
            continue
        if min(wide, high) < SIDE:
            small += 1
            continue
        photos.append(Photo(file, high, wide))
        digest.update(
            file.relative_to(folder).as_posix().encode() + hashlib.sha256(content).digest()
        )
    if not photos:
        why = (
            f"{small:,} are smaller than {SIDE}x{SIDE} pixels, {len(files) - small:,} cannot be "
            "read"
        )
        raise DataError(
            f"MNIST-M: none of the {len(files):,} images in data.photos={folder} will do: "
            f"{why}.\n{CURE}"
        )
    return photos, digest.hexdigest()


def divide(folder: Path, photos: Sequence[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Photographs of the training and of the test digits."""
    above = [set(photo.path.relative_to(folder).parts[:-1]) for photo in photos]
    train = [photo for photo, names in zip(photos, above, strict=True) if names & {"train", "val"}]
    test = [photo for photo, names in zip(photos, above, strict=True) if "test" in names]
    if not (train and test):
        train, test = [photo for i, photo in enumerate(photos) if i % FIFTH], list(photos[::FIFTH])
    if not train:
        raise DataError(
            f"MNIST-M: data.photos={folder} holds one photograph of at least {SIDE}x{SIDE} "
            f"pixels; two are needed.\n{CURE}"
        )
    return train, test


def blend(digits: Tensor, photos: Sequence[Photo], generator: torch.Generator) -> Tensor:
    """Digits blended over a random patch each: |digit - patch|.

    uint8 (N, 1, 28, 28) to (N, 3, 28, 28); each photograph is decoded once.
    """
    which = torch.randint(len(photos), (len(digits),), generator=generator)
    room = torch.tensor([(p.high, p.wide) for p in photos])[which] - SIDE
    top, left = (
        (torch.rand(len(digits), 2, generator=generator, dtype=torch.float64) * (room + 1))
        .long()
        .minimum(room)
        .unbind(1)
    )
    blended = torch.empty(len(digits), 3, SIDE, SIDE, dtype=torch.uint8)
    groups = which.argsort(stable=True).split(which.bincount(minlength=len(photos)).tolist())
    for photo, mine in zip(photos, groups, strict=True):
        if len(mine):
            windows = decode(photo).unfold(1, SIDE, 1).unfold(2, SIDE, 1)
            patches = windows[:, top[mine], left[mine]].transpose(0, 1)
            blended[mine] = torch.maximum(digits[mine], patches) - torch.minimum(
                digits[mine], patches
            )
    return blended


def decode(photo: Photo) -> Tensor:
    """Pixels of a photograph in colour, uint8 (3, H, W)."""
    try:
        with Image.open(photo.path, formats=formats()) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except UNREADABLE as error:
        raise DataError(
            f"MNIST-M: {photo.path} cannot be read ({error}). Delete it, or mend it, and run again."
        ) from error
