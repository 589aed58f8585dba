"""``.npz`` files of feature vectors and labels, read and checked."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tl_runner.errors import DataError

# what NumPy raises for a file that is damaged or no archive of arrays
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

FORM = (
    "A file should hold x, numbers of shape (N, d), and y, N class numbers or names, or "
    "floats to predict: numpy.savez('name.npz', x=x, y=y)."
)
MASK, NO_LABEL = "-1", ""  # of a row without a label: as a file has it, and as it is kept
MANY_CLASSES = 50  # integers of more values may be meant as numbers
FEW_VALUES = 20  # floats of so few whole values may be meant as classes


@dataclass(frozen=True)
class Arrays:
    """One file: its training part, its test part if it has one, and the digest.

    Vectors float64 (N, d); labels text, or float32 where they are numbers. A sample without a label
    has an empty text or NaN; a file without ``y`` has ``y`` None.
    """

    file: Path
    x: np.ndarray
    y: np.ndarray | None
    test: tuple[np.ndarray, np.ndarray] | None
    digest: str

    @property
    def numbers(self) -> bool:
        """Whether the labels are numbers; False where there are none."""
        return any(y.dtype.kind == "f" for y in self._labels())

    def _labels(self) -> list[np.ndarray]:
        return [y for y in (self.y, self.test[1] if self.test else None) if y is not None]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, integers by size; none of numbers."""
        if self.numbers:
            return []
        names = {str(name) for y in self._labels() for name in y} - {NO_LABEL}
        return sorted(
            names,
            key=lambda name: (
                (0, float(name), "") if re.fullmatch("-?[0-9]+", name) else (1, 0.0, name)
            ),
        )

    def masked(self, classes: Sequence[str]) -> Arrays:
        """The same with -1 as no label, unless it is a class of another file, or is one itself as
        in -1 and 1."""
        if self.numbers or MASK in classes or {*self.classes} == {MASK, "1"}:
            return self
        y, test = self.y, self.test
        return replace(
            self,
            y=None if y is None else np.where(y == MASK, NO_LABEL, y),
            test=test and (test[0], np.where(test[1] == MASK, NO_LABEL, test[1])),
        )

    def labelled(self) -> np.ndarray:
        """Whether each training row has a label, bool (N,)."""
        if self.y is None:
            return np.zeros(len(self.x), dtype=bool)
        return ~np.isnan(self.y) if self.numbers else self.y != NO_LABEL


def read(file: Path, key: str) -> Arrays:
    """Content of a file, checked.

    Raises:
        DataError: it is not there, no ``.npz``, or holds something else.
    """
    if file.is_dir():
        raise DataError(f"{key}={file} is a folder. {FORM}")
    if not file.is_file():
        raise DataError(f"{key}={file}: there is no such file. {FORM}")
    try:
        with np.load(file, allow_pickle=False) as content:
            names = list(content)
            objects = [name for name in ("y", "y_test") if name in names and _is_object(file, name)]
            held: Mapping[str, np.ndarray] = {
                name: content[name]
                for name in ("x", "y", "x_test", "y_test")
                if name in names and name not in objects
            }
    except UNREADABLE as error:
        raise DataError(
            f"{key}={file} cannot be read as .npz ({' '.join(str(error).split())[:200]}). {FORM}"
        ) from error
    if objects:
        raise DataError(
            f"{key}={file}: {objects[0]} holds Python objects, which are not read. Store names as "
            f"text, numpy.savez(..., {objects[0]}={objects[0]}.astype(str)), or numbers as "
            ".astype(int)."
        )
    if "y_test" in held and "x_test" not in held:
        raise DataError(f"{key}={file} has y_test without x_test. {FORM}")
    if "x_test" in held and "y_test" not in held:
        raise DataError(
            f"{key}={file} has x_test without y_test: a test part needs labels. Rows without "
            f"labels go into x. {FORM}"
        )
    if "x" not in held:
        raise DataError(f"{key}={file} holds {', '.join(names) or 'nothing'}. {FORM}")
    if "x_test" in held and not len(held["x_test"]):
        raise DataError(
            f"{key}={file}: x_test is empty. Leave it and y_test out, and a part of x is drawn."
        )
    pairs = [
        checked(held[f"x{end}"], held.get(f"y{end}"), f"{key}={file}", end)
        for end in ("", "_test")
        if f"x{end}" in held
    ]
    kinds = {y.dtype.kind == "f" for _, y in pairs if y is not None}
    if len(kinds) > 1:
        raise DataError(
            f"{key}={file}: one of y and y_test holds floats, numbers to predict, and the other "
            f"classes. {FORM}"
        )
    if len({x.shape[1] for x, _ in pairs}) > 1:
        raise DataError(f"{key}={file}: x and x_test have vectors of different lengths.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    test = None
    if len(pairs) > 1:
        x_test, y_test = pairs[1]
        assert y_test is not None
        test = (x_test, y_test)
    return Arrays(file, *pairs[0], test, digest)


def _is_object(file: Path, name: str) -> bool:
    """Whether an array of a file is of Python objects, by its header: nothing is unpickled."""
    with zipfile.ZipFile(file) as whole, whole.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        return read_header(member)[2].hasobject


def read_vectors(file: Path) -> np.ndarray:
    """Array ``x`` of a file alone, float64 (N, d).

    Raises:
        UNREADABLE: it is no such file.
    """
    with np.load(file, allow_pickle=False) as content:
        x = content["x"]
    if x.ndim != 2 or not len(x) or x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        raise ValueError(f"x is {x.dtype} of shape {x.shape}, or not finite")
    return x.astype(np.float64)


def checked(
    x: np.ndarray, y: np.ndarray | None, file: str, end: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors float64 (N, d), and labels as text (N,), or float32 where these are numbers.

    ``end`` is what follows x and y in the arrays' names.
    """
    where, of_labels = f"{file}: x{end}", f"{file}: y{end}"
    if x.ndim != 2 or not len(x) or not x.shape[1] or x.dtype.kind not in "fiub":
        raise DataError(f"{where} is {x.dtype} of shape {x.shape}. {FORM}")
    if y is not None and y.dtype.kind == "S":
        raise DataError(f"{of_labels} holds bytes ({y.dtype}). Store them as text: y.astype(str).")
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iuUbf"):
        raise DataError(
            f"{where} has {len(x):,} rows, its labels are {y.dtype} of shape {y.shape}. {FORM}"
        )
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(1))
        raise DataError(
            f"{where} is NaN or infinite in {len(rows):,} row{'s'[: len(rows) != 1]}, the first "
            f"of them {rows[0]}. Mend or remove them."
        )
    if y is None or y.dtype.kind != "f":
        return x, None if y is None else y.astype(str)
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float32)
    if np.isinf(numbers).any():
        wrong = int(np.isinf(numbers).sum())
        raise DataError(
            f"{of_labels} is infinite or beyond single precision in {wrong:,} rows. "
            "Mend or remove them; a row without a label has NaN."
        )
    return x, numbers


def hints(found: Mapping[str, Arrays]) -> Iterator[str]:
    """Notes on labels that may be meant otherwise."""
    for domain, arrays in found.items():
        key = f"data.{domain}_file={arrays.file}"
        values = [y[arrays.labelled()] if y is arrays.y else y for y in arrays._labels()]
        if arrays.numbers:
            flat = np.unique(np.concatenate(values)) if values else np.empty(0)
            flat = flat[~np.isnan(flat)]
            if 0 < len(flat) <= FEW_VALUES and (flat == np.rint(flat)).all():
                yield (
                    f"{key}: y holds floats, so numbers are predicted; it has {len(flat)} "
                    "whole values. If they are classes, store them as integers: y.astype(int)."
                )
        elif len(arrays.classes) > MANY_CLASSES and all(
            re.fullmatch("-?[0-9]+", name) for name in arrays.classes
        ):
            yield (
                f"{key}: y holds {len(arrays.classes):,} different integers, which are taken as "
                "classes. If numbers are to be predicted, store them as floats: y.astype(float)."
            )
