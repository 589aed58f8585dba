"""Base of every domain that has a name, and of those that torchvision downloads and reads."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.splits import Split
from tl_runner.errors import DataError

BY_HAND = (
    "fetch the files yourself into that folder, or run data=fonts2digits, which needs no download"
)
# path, size and time of each file: what a cache of their content goes by
Stamp = tuple[tuple[str, int, int], ...]


class Domain(ABC):
    """One set of labelled pictures, mostly of the ten digits.

    ``data.source``, ``data.target`` and ``data.of`` name its module.

    A subclass takes the keys of the data's YAML that are its own as keywords.

    Attributes:
        title: its name in messages and in the record.
        sampled: training images that the protocol ``sampled`` draws.
        classes: their names, in the order of the labels.
    """

    title: str
    sampled = 2000
    classes: Sequence[str] = tuple("0123456789")

    @abstractmethod
    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        """(train, test, checksums); the images uint8 (N, C, H, W) in the set's own size.

        Args:
            root: the folder that holds every set.
            download: fetch what is missing there.
            seed: of the run, for a set that is drawn anew.

        Raises:
            DataError: a file is missing, damaged or of the wrong size; or the download failed.
        """

    def notes(self) -> list[str]:
        """Notes on it for the record's protocol."""
        return []


class Downloaded(Domain):
    """A set that torchvision downloads and reads.

    Attributes:
        files: those of the training and of the test images, under the root.
        sizes: numbers of training and test images.
    """

    files: tuple[tuple[str, ...], tuple[str, ...]]
    sizes: tuple[int, int]

    @staticmethod
    @abstractmethod
    def fetch(root: Path) -> None:
        """Download by torchvision, which checks the MD5 sums."""

    @staticmethod
    @abstractmethod
    def arrays(root: Path, train: bool) -> tuple[Tensor, Tensor]:
        """(images uint8 (N, C, H, W), labels int64 (N,)) of files that are there."""

    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        paths = self.find(root, download)
        train, test = read_once(type(self), root, stamp(paths))
        return (
            train,
            test,
            {str(p.relative_to(root)): sha256(str(p), p.stat().st_mtime_ns) for p in paths},
        )

    @classmethod
    def find(cls, root: Path, download: bool) -> list[Path]:
        """Files of the set under ``root``.

        Fetched there first if ``download`` and one is missing.
        """
        paths = [root / file for part in cls.files for file in part]
        missing = [p for p in paths if not p.is_file()]
        if missing and root.exists() and not root.is_dir():
            raise DataError(
                f"data.root={root} is a file. Point it at a folder that holds "
                f"{cls.files[0][0].split('/')[0]}/."
            )
        if missing and download:
            cls._download(root)
            missing = [p for p in paths if not p.is_file()]
        if missing:
            raise DataError(
                f"{cls.title} is not complete: {', '.join(str(p) for p in missing)} not found.\n"
                "  Add data.download=true, or point data.root (or TL_DATA_ROOT) at the folder "
                "that holds it;\n"
                f"  or {BY_HAND}."
            )
        empty = [p for p in paths if p.stat().st_size == 0]
        if empty:
            raise DataError(
                f"{empty[0]} is empty. Delete it and add data.download=true, or {BY_HAND}."
            )
        return paths

    @classmethod
    def _download(cls, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            cls.fetch(root)
        except PermissionError as error:
            raise DataError(
                f"data.root={root} is not writable ({error.strerror}). Choose another data.root."
            ) from error
        except (OSError, RuntimeError) as error:
            wanted = ", ".join(str(root / file) for part in cls.files for file in part)
            raise DataError(
                f"The download of {cls.title} failed: {error}\n  Wanted: {wanted}.\n  Or {BY_HAND}."
            ) from error

    @classmethod
    def part(cls, root: Path, train: bool) -> Split:
        """Training or test images of files that are there."""
        number = 0 if train else 1
        size, files = cls.sizes[number], ", ".join(str(root / file) for file in cls.files[number])
        try:
            x, y = cls.arrays(root, train)
        except (
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            AssertionError,
            LookupError,
            TypeError,
        ) as error:
            raise DataError(
                f"{cls.title} cannot be read ({type(error).__name__}: {error}).\n"
                f"  A file is damaged or not what its name says: {files}.\n"
                f"  Delete it and add data.download=true, or {BY_HAND}."
            ) from error
        if len(x) != size or len(y) != size:
            raise DataError(
                f"{cls.title}: {files}: {len(x):,} images and {len(y):,} labels, expected "
                f"{size:,}.\n"
                "  Files are cut short or swapped. Delete them and add data.download=true, or "
                f"{BY_HAND}."
            )
        return Split(x, y, torch.arange(len(x)))


@cache
def read_once(kind: type[Downloaded], root: Path, stamp: Stamp) -> tuple[Split, Split]:
    """Training and test images, read once by the runs of a process.

    Again when a file changes, which ``stamp`` shows.
    """
    return kind.part(root, train=True), kind.part(root, train=False)


def stamp(paths: list[Path]) -> Stamp:
    """Path, size and time of each file."""
    stats = [(p, p.stat()) for p in paths]
    return tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in stats)


@cache
def sha256(path: str, mtime_ns: int) -> str:
    """SHA-256 of a file, for the record."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# torchvision takes seconds to import, and only the downloaded sets need it
def torchvision_datasets():
    from torchvision import datasets

    return datasets
