"""``.npz`` files opened as archives from anywhere: nothing is unpickled, and no array is allocated
whose size is not that of its part of the file."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np

# what zipfile, its codecs and NumPy raise for a file that is damaged or no archive of arrays
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # encrypted, or of another compression
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

HEADER = 10_000  # bytes; NumPy takes no header of more characters


def read_npz(file: Path, names: Iterable[str]) -> tuple[list[str], dict[str, np.ndarray | None]]:
    """Names of all arrays of an ``.npz`` file, and those of ``names`` that it has.

    None stands for an array of Python objects, which are not read.

    Raises:
        ValueError: it is damaged or no such file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {name: _read(archive, members[name]) for name in names if name in members}
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(why) from error
    return [*members], found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray | None:
    """One array, once its header and the archive agree on its size."""
    with archive.open(info) as member:
        start = io.BytesIO(member.read(HEADER))
    version = np.lib.format.read_magic(start)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        (3, 0): np.lib.format.read_array_header_2_0,  # but for names of fields, which none has here
    }
    if version not in readers:
        raise ValueError(f"{info.filename} is of version {version[0]}.{version[1]}")
    try:
        shape, _, dtype = readers[version](start)
    except (MemoryError, RecursionError, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{info.filename} has no header of an array") from error
    if dtype.hasobject:
        return None
    if min(shape, default=0) < 0:
        raise ValueError(f"{info.filename} says that it is of shape {shape}")
    declared, held = prod(shape) * dtype.itemsize, info.file_size - start.tell()
    if declared != held:
        raise ValueError(
            f"{info.filename} says that it is {dtype} of shape {shape}, {declared:,} bytes, and "
            f"holds {held:,}"
        )
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
