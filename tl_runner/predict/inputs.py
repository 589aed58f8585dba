"""What a finished run predicts for, as it is before the network: pictures, vectors or texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tl_runner.data.folders import below, is_folder
from tl_runner.data.picture_file import FULL, SUFFIXES
from tl_runner.data.pictures import decode
from tl_runner.data.text_files import SUFFIXES as TABLES
from tl_runner.data.text_files import read
from tl_runner.data.vectors import UNREADABLE, read_vectors
from tl_runner.errors import DataError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.backbones._texts import Reader
    from tl_runner.data.task import Outline

AT_ONCE = 2**28  # bytes of pictures that are decoded before they are predicted
LINES = ".txt"  # a text a line


@dataclass(frozen=True)
class Chunk:
    """Some of the files, as they are before the network.

    Attributes:
        files: those that could be read, in order; of vectors and texts a name for each row.
        x: uint8 (n, C, H, W), float32 (n, d, 1, 1), or tokens int32 (n, L, 1, 1).
        unreadable: why each of the others could not be.
        wide: how many have more than 8 bits a pixel, which the run's target had none of.
    """

    files: list[Path]
    x: Tensor
    unreadable: dict[Path, str]
    wide: int = 0


def _unread(file: Path, error: Exception) -> Chunk:
    return Chunk([], torch.empty(0), {file: " ".join(str(error).split())[:200]})


class Inputs(ABC):
    """Reads files in the way in which the run read its own.

    Attributes:
        suffixes: of the files that it takes. kind: what they hold, in the plural. one, many: a file
            and several.
    """

    suffixes: tuple[str, ...]
    kind: str
    one: str
    many = "files"

    @abstractmethod
    def chunks(self, files: Sequence[Path], workers: int) -> Iterator[Chunk]:
        """The files' content, a part of them at a time, none of which depends on another."""

    @abstractmethod
    def describe(self) -> str:
        """What the run takes, in a few words."""

    def named(self, paths: Sequence[Path]) -> list[Path]:
        """Files that ``paths`` name, those of a folder in order.

        Raises:
            UserError: one is not there or holds another kind of thing, or a folder has no such
                files.
        """
        others = {*SUFFIXES, *TABLES, LINES, ".npz"} - {*self.suffixes}
        files: list[Path] = []
        for path in paths:
            if is_folder(path):
                lying = below([path])
                # a link that leads nowhere is a file that cannot be read, and is named as such
                every = sorted([*lying.files, *lying.dangling])
                wanted = [f for f in every if _suffix(f) in self.suffixes]
                if not wanted:
                    raise UserError(f"{path}: no {self.one} in there ({', '.join(self.suffixes)}).")
                files += wanted
            elif path.is_file():
                if _suffix(path) in others:
                    raise UserError(f"{path}: this run predicts {self.kind}, not such a file.")
                files.append(path)
            else:
                raise UserError(f"{path}: there is no such file or folder.")
        return files


def _suffix(file: Path) -> str:
    """The suffix of a file, of a compressed one that before ``.gz``."""
    suffix = file.suffix.lower()
    return file.with_suffix("").suffix.lower() if suffix == ".gz" else suffix


class Pictures(Inputs):
    """Pictures, decoded to the run's size and scaled as its own were, or by the type of the file.

    Args:
        outline: of the run.
        fit: how they are brought to its size.
    """

    suffixes, kind, one, many = tuple(SUFFIXES), "pictures", "picture", "pictures"

    def __init__(self, outline: Outline, fit: str):
        self.outline, self.fit = outline, fit

    def describe(self) -> str:
        channels, high, wide = self.outline.shape
        kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        return f"{high}x{wide} in {kind}"

    def chunks(self, files: Sequence[Path], workers: int) -> Iterator[Chunk]:
        channels, size, _ = self.outline.shape
        step = max(64, AT_ONCE // prod(self.outline.shape))
        for start in range(0, len(files), step):
            some = [*files[start : start + step]]
            found = decode(
                Path(),
                some,
                size=size,
                channels=channels,
                fit=self.fit,
                workers=workers,
                cache=None,
                scale=self.outline.pixels or "type",
            )
            good = [i for i in range(len(some)) if i not in found.unreadable]
            yield Chunk(
                [some[i] for i in good],
                found.x[good],
                {some[i]: why for i, why in found.unreadable.items()},
                0 if self.outline.pixels else found.wide,
            )


def wide_note(wide: int) -> str:
    """A note on pictures of more than 8 bits, of which the run's target had none."""
    (_, white), (_, bright) = FULL[False], FULL[True]
    return (
        f"{wide:,} of more than 8 bits a pixel, and the run's target had none: white is "
        f"{white:g} in files of whole numbers, {bright:g} in files of floats"
    )


class Vectors(Inputs):
    """Rows of each file's ``x``, scaled as in training.

    Args:
        outline: of the run.
    """

    suffixes, kind, one = (".npz",), "vectors", "file of vectors"

    def __init__(self, outline: Outline):
        self.outline = outline

    def describe(self) -> str:
        return f"vectors of {self.outline.shape[0]} numbers"

    def chunks(self, files: Sequence[Path], workers: int) -> Iterator[Chunk]:
        width = self.outline.shape[0]
        for file in files:
            try:
                x = torch.from_numpy(read_vectors(file))
                if x.shape[1] != width:
                    raise ValueError(f"vectors of {x.shape[1]} numbers, not of {width}")
                if scale := self.outline.scale:
                    mean, deviation = (
                        torch.tensor(scale[key], dtype=torch.float64)
                        for key in ("mean", "deviation")
                    )
                    x = (x - mean) / deviation
                x = x.float()
                if not x.isfinite().all():
                    raise ValueError("x is beyond single precision")
            except UNREADABLE as error:
                yield _unread(file, error)
                continue
            rows = [file.with_name(f"{file.name}[{i}]") for i in range(len(x))]
            yield Chunk(rows, x[:, :, None, None], {})


class Texts(Inputs):
    """Texts of each table's column, or the lines of a ``.txt``.

    Args:
        data: the section of the run's config, which names the column.
        reader: of the run.
    """

    suffixes, kind, one = (*TABLES, LINES), "texts", "table of texts"

    def __init__(self, data: Mapping[str, Any], reader: Reader):
        self.column, self.reader = str(data.get("text", "text")), reader

    def describe(self) -> str:
        return f"texts in the column {self.column} of tables, or lines of {LINES}"

    def chunks(self, files: Sequence[Path], workers: int) -> Iterator[Chunk]:
        for file in files:
            try:
                texts, lines = self._texts(file)
            except (DataError, OSError, ValueError) as error:
                yield _unread(file, error)
                continue
            yield Chunk(
                [file.with_name(f"{file.name}:{line}") for line in lines], self.reader(texts), {}
            )

    def _texts(self, file: Path) -> tuple[list[str], list[int]]:
        if _suffix(file) != LINES:
            table, _ = read(file, "the file", self.column)
            return table.texts, table.lines
        every = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        lines = [i for i, text in enumerate(every, 1) if text]
        if not lines:
            raise ValueError("there is no text in it")
        return [every[i - 1] for i in lines], lines
