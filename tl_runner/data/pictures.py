"""Picture files of any kind as uint8 images of one size.

Decoded once, by worker processes, and kept in a file that is mapped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_runner.data.picture_file import FULL, Range, picture, scale_of
from tl_runner.data.rows import from_file
from tl_runner.errors import DataError
from tl_runner.files import claimed

# (low, high), or each file's by its type, or None: what all hold together
Scale = Sequence[float] | Literal["type"] | None

FORMAT = 3  # of the cache: a change of what a file becomes, or of its key, is another number
FEW = 500  # files that one process decodes sooner than workers start
AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Decoded files.

    Attributes:
        x: uint8 (N, C, S, S), mapped from the cache where there is one.
        unreadable: by position, why a file could not be read; its image is black.
        contents: SHA-256 of each file, in hexadecimal; empty where it could not be read.
        wide: how many have more than 8 bits a pixel.
        scale: (low, high), the pixels of these that became 0 and 255; None without any, and where
            each has its type's.
    """

    x: Tensor
    unreadable: dict[int, str]
    contents: Sequence[str]
    wide: int = 0
    scale: tuple[float, float] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content of all files, in their order."""
        return hashlib.sha256(bytes.fromhex("".join(self.contents))).hexdigest()

    def order(self) -> list[int]:
        """Positions of the files by their content, which no name and no folder changes."""
        return sorted(range(len(self.contents)), key=lambda i: (self.contents[i], i))


def decode(
    root: Path,
    files: Sequence[Path],
    *,
    size: int,
    channels: int,
    fit: str,
    workers: int,
    cache: Path | None,
    scale: Scale = None,
) -> Pictures:
    """Every file as an image of (channels, size, size).

    From the cache if it has the files as they are now.

    Args:
        root: the folder that ``files`` lie in; the cache goes by where it is, by their paths in
            it and their :func:`_stamp`.
        fit: ``crop`` the middle square or ``stretch`` the whole picture.
        workers: processes that decode; 0 does it here.
        cache: the folder that keeps what was decoded; None keeps nothing.
        scale: (low, high), the pixels of files of more than 8 bits that become 0 and 255, for all
            of them; ``type``: of each file the full range of its type, whatever others hold;
            None: by :func:`scale_of` what they hold together.

    Raises:
        DataError: the cache cannot be written; pixels are in no usual range.
    """
    if cache is None:
        x = np.empty((len(files), channels, size, size), dtype=np.uint8)
        return _pictures(x, _fill(x, root, files, fit, workers, scale))
    stamps = [(str(f.relative_to(root)), _stamp(f)) for f in files]
    how = [size, channels, fit, scale if scale is None or scale == "type" else [*scale]]
    what = json.dumps([FORMAT, str(root.resolve()), how, stamps])
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
        if len(found["contents"]) != len(files):
            raise ValueError("contents")
        return _pictures(x, found)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{array} is damaged ({error}). Delete it and {about.name}; the pictures are then "
            "decoded again."
        ) from error


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What changes with a file's content, or when another file takes its place.

    Sizes and times of change alone do not: archives restore them. None where there is no file.
    """
    try:
        found = file.stat()
    except OSError:
        return None  # decoding says why
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _pictures(x: np.ndarray, about: Mapping[str, Any]) -> Pictures:
    """What was decoded, with what :func:`_fill` or its file says of it."""
    low_high = about["scale"]
    return Pictures(
        from_file(x),
        {int(i): str(why) for i, why in about["unreadable"].items()},
        [bytes.fromhex(content).hex() for content in about["contents"]],
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
    scale: Scale,
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
    scale: Scale,
) -> dict[str, Any]:
    """Decode into the rows of ``x``; what there is to say of the files, as JSON.

    Files of more than 8 bits wait until all are seen, and then have their scale.
    """
    unreadable: dict[int, str] = {}
    contents: list[bytes] = []
    ranges: dict[int, Range] = {}
    for row, (image, content, why, held) in enumerate(_each(files, x, fit, workers, None)):
        x[row] = image
        contents.append(content)
        if why:
            unreadable[row] = why
        if held:
            ranges[row] = held
    if scale == "type":
        unreadable |= {row: why for row, held in ranges.items() if (why := held.beyond())}
        own = {i: FULL[held.floats] for i, held in ranges.items() if i not in unreadable}
    else:
        low, high = scale or (scale_of(root, [*ranges.values()]) if ranges else FULL[False])
        own = dict.fromkeys(ranges, (low, high))
    for one in sorted({*own.values()}):
        rows = [row for row, scaled_by in own.items() if scaled_by == one]
        again = _each([files[i] for i in rows], x, fit, workers, one)
        for row, (image, _, why, _) in zip(rows, again, strict=True):
            x[row] = image
            if why:
                unreadable[row] = why
    return {
        "contents": ["" if i in unreadable else c.hex() for i, c in enumerate(contents)],
        "unreadable": unreadable,
        "wide": len(own),
        "scale": None if scale == "type" else next(iter(own.values()), None),
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


# (image, SHA-256 of the file, why it could not be read or "", its range where that is to be scaled)
Decoded = tuple[np.ndarray, bytes, str, Range | None]


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
        content = None
        try:
            content = file.read_bytes()
            found = picture(file, self.channels, self.size, self.fit, self.scale)
        except Exception as error:  # PIL raises nearly any kind for a damaged file
            why = (
                "empty file"
                if content == b""
                else " ".join(str(error).split()) or type(error).__name__
            )
            why = why.replace(repr(self.files[position]), "it").replace(self.files[position], "it")
            return black, b"", why, None
        digest = hashlib.sha256(content).digest()
        if isinstance(found, Range):
            return black, digest, "", found
        return found, digest, "", None
