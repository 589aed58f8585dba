"""Rows of a tensor that is not copied: the pictures of a split, as they lie in the cache's file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

LARGE = 256 * 2**20  # bytes from which pictures of a split are not copied
RESIDENT = 512 * 2**20  # bytes of a mapped file that are kept in memory
CHUNK = 1024  # rows at once, where all are looked at


class Mapped:
    """A file that is mapped into memory, read-only in effect.

    What was read of it stays resident until the system wants the memory; this gives it back before,
    so that a run's memory does not grow with its data.
    """

    def __init__(self, memory: Any):
        self.memory, self.bytes = memory, 0

    def read(self, size: int) -> None:
        """Note that bytes were read, and give pages back where they are many."""
        self.bytes += size
        if self.bytes >= RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)
            self.bytes = 0


class Rows:
    """Some rows of a tensor, in some order, read when they are asked for.

    In the place of a tensor of them where samples are many: it has a tensor's shape and type, and
    indexing and ``split`` give tensors. What would need all rows at once, arithmetic say, it has
    not, so that nobody copies them by accident; ``[:]`` does.

    Args:
        base: (N, ...), often a file that is mapped into memory.
        index: the rows' numbers, int64 (n,).
    """

    def __init__(self, base: Tensor, index: Tensor):
        self.base, self.index = base, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Tensor:
        """The rows at a number, a slice, a list or tensor of numbers, or a mask."""
        picked: Tensor = self.base[self.index[rows]]
        if mapped := getattr(self.base, "mapped", None):
            mapped.read(picked.numel() * picked.element_size())
        return picked

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.base.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def ndim(self) -> int:
        return self.base.ndim

    def take(self, index: Tensor) -> Rows:
        """Rows of these rows, not copied either."""
        return Rows(self.base, self.index[index])

    def split(self, size: int) -> Iterator[Tensor]:
        """The rows in order, ``size`` at a time."""
        return (self[i : i + size] for i in range(0, len(self), size))

    def amax(self) -> Tensor:
        """The largest value of all."""
        return torch.stack([part.amax() for part in self.split(CHUNK)]).amax()

    def numpy(self) -> np.ndarray:
        """An array of them, copied."""
        return self[:].numpy()

    def to(self, device: torch.device) -> Rows | Tensor:
        """A tensor on another device; on their own the rows as they are."""
        return self if self.device.type == device.type else self[:].to(device)


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Samples at ``index``: a tensor, or of many pictures in the processor's memory
    :class:`Rows`."""
    if (rows := _rows(x)) is not None:
        return cast("Tensor", rows.take(index))
    size = len(index) * x[:1].numel() * x.element_size()
    large = x.dtype == torch.uint8 and x.device.type == "cpu" and size >= LARGE
    return cast("Tensor", Rows(x, index)) if large else x[index]


def moved(x: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    """Samples on a device, laid out in memory; :class:`Rows` that stay where they are, as they
    are."""
    if device.type == "cpu" and layout != torch.contiguous_format:
        x = taken(x, torch.arange(len(x)))
    there = x.to(device)
    return there if _rows(there) is not None else there.contiguous(memory_format=layout)


def chained(parts: Sequence[Tensor]) -> Tensor:
    """Samples of several parts one after the other; :class:`Rows` of one tensor remain such."""
    rows = [found for part in parts if (found := _rows(part)) is not None]
    if len(rows) == len(parts) and len({id(part.base) for part in rows}) == 1:
        index = torch.cat([part.index for part in rows])
        return cast("Tensor", Rows(rows[0].base, index))
    return torch.cat([part[:] for part in parts])


def from_file(array: np.ndarray) -> Tensor:
    """A tensor of an array that may be a mapped file, which nobody writes to; large ones as
    :class:`Rows`."""
    x = torch.from_numpy(array)
    if isinstance(array, np.memmap):
        x.mapped = Mapped(array._mmap)  # type: ignore[attr-defined]
    return taken(x, torch.arange(len(x)))


def _rows(x: object) -> Rows | None:
    return x if isinstance(x, Rows) else None


def in_parts(x: Tensor) -> Iterator[Tensor]:
    """The samples in order, as tensors of a bearable size."""
    yield from x.split(CHUNK)
