"""``.npz`` files of feature vectors and labels, read and checked."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tl_runner.data.npz import UNREADABLE as UNREADABLE
from tl_runner.data.npz import read_npz
from tl_runner.errors import DataError, human_list

PARTS = ("x", "y", "x_test", "y_test")  # arrays of a file
FORM = (
    "A file should hold x, numbers of shape (N, d), and y, N class numbers or names, or "
    "floats to predict: numpy.savez('name.npz', x=x, y=y)."
)
MASK, NO_LABEL = "-1", ""  # of a row without a label: as a file has it, and as it is kept
MANY_CLASSES = 50  # integers of more values may be meant as numbers
FEW_VALUES = 20  # floats of so few whole values may be meant as classes
INTEGER = re.compile("-?[0-9]{1,99}")  # a class that is one; of more digits it is a name
LOST = 1e-3  # of their deviation: what single precision may change numbers by


@dataclass(frozen=True)
class Arrays:
    """One file: its training part, its test part if it has one, and the digest.

    Vectors float64 (N, d); labels text, or float64 where they are numbers. A sample without a label
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
            key=lambda name: (0, int(name), name) if INTEGER.fullmatch(name) else (1, 0, name),
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
        return np.zeros(len(self.x), dtype=bool) if self.y is None else self._known(self.y)

    def test_labelled(self) -> np.ndarray:
        """Whether each row of the test part has a label, bool (N,); (0,) of none."""
        return self._known(self.test[1]) if self.test else np.zeros(0, dtype=bool)

    def _known(self, y: np.ndarray) -> np.ndarray:
        return ~np.isnan(y) if self.numbers else y != NO_LABEL


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
        names, arrays = read_npz(file, PARTS)
    except ValueError as error:
        raise DataError(f"{key}={file} cannot be read as .npz ({error}). {FORM}") from error
    held = {name: array for name, array in arrays.items() if array is not None}
    if objects := [name for name in arrays if name not in held]:
        name = objects[0]
        cure = (
            f"numbers, numpy.savez(..., {name}={name}.astype(float))"
            if name.startswith("x")
            else f"names as text, numpy.savez(..., {name}={name}.astype(str)), or numbers as "
            ".astype(int)"
        )
        raise DataError(
            f"{key}={file}: {name} holds Python objects, which are not read. Store {cure}."
        )
    if "y_test" in held and "x_test" not in held:
        raise DataError(f"{key}={file} has y_test without x_test. {FORM}")
    if "x_test" in held and "y_test" not in held:
        raise DataError(
            f"{key}={file} has x_test without y_test: a test part needs labels. Rows without "
            f"labels go into x. {FORM}"
        )
    if "x" not in held:
        raise DataError(f"{key}={file} holds {human_list(names, 5) or 'nothing'}. {FORM}")
    if "x_test" in held and not held["x_test"].size:
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
    if kinds == {True}:
        refuse_lost_digits([y for _, y in pairs if y is not None], f"{key}={file}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    test = None
    if len(pairs) > 1:
        x_test, y_test = pairs[1]
        assert y_test is not None
        test = (x_test, y_test)
    return Arrays(file, *pairs[0], test, digest)


def read_vectors(file: Path) -> np.ndarray:
    """Array ``x`` of a file alone, float64 (N, d).

    Raises:
        ValueError: it is no such file.
    """
    names, held = read_npz(file, ["x"])
    if (x := held.get("x")) is None:
        raise ValueError(f"it holds {human_list(names, 5) or 'nothing'}, and no numbers x")
    return rows_of_numbers(x, "x")


def rows_of_numbers(x: np.ndarray, name: str) -> np.ndarray:
    """Vectors float64 (N, d) of an array.

    Raises:
        ValueError: it holds something else.
    """
    if x.ndim != 2 or not len(x) or not x.shape[1] or x.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} is {x.dtype} of shape {x.shape}, and should be numbers of shape (N, d), a row "
            "for each vector."
        )
    with np.errstate(over="ignore"):  # of more than double precision
        x = x.astype(np.float64)
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(1))
        raise ValueError(
            f"{name} is NaN or infinite in {len(rows):,} row{'s'[: len(rows) != 1]}, the first "
            f"of them {rows[0]}. Mend or remove them."
        )
    return x


def checked(
    x: np.ndarray, y: np.ndarray | None, file: str, end: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors float64 (N, d), and labels as text (N,), or float64 where these are numbers.

    ``end`` is what follows x and y in the arrays' names.
    """
    of_labels = f"{file}: y{end}"
    try:
        x = rows_of_numbers(x, f"x{end}")
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error
    if y is not None and y.dtype.kind == "S":
        raise DataError(f"{of_labels} holds bytes ({y.dtype}). Store them as text: y.astype(str).")
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iuUbf"):
        raise DataError(
            f"{file}: x{end} has {len(x):,} rows, its labels are {y.dtype} of shape {y.shape}. "
            f"{FORM}"
        )
    if y is None:
        return x, None
    if y.dtype.kind != "f":
        refuse_no_text(y, of_labels)
        return x, y.astype(str)
    with np.errstate(over="ignore"):
        numbers, single = y.astype(np.float64), y.astype(np.float32)
    if np.isinf(single).any():
        wrong = int(np.isinf(single).sum())
        raise DataError(
            f"{of_labels} is infinite or beyond single precision in {wrong:,} rows. "
            "Mend or remove them; a row without a label has NaN."
        )
    return x, numbers


def refuse_no_text(y: np.ndarray, of_labels: str) -> None:
    """Refuse names with numbers in them that stand for no character.

    Raises:
        DataError: there are some.
    """
    if y.dtype.kind != "U" or not y.dtype.itemsize:
        return
    points = np.ascontiguousarray(y.astype(y.dtype.newbyteorder("="))).view(np.uint32)
    wrong = (points > sys.maxunicode) | ((points >= 0xD800) & (points < 0xE000))  # surrogates
    if wrong.any():
        row = int(wrong.reshape(len(y), -1).any(1).argmax())
        raise DataError(
            f"{of_labels}[{row}] is no text. Mend the names, or store the classes as integers."
        )


def refuse_lost_digits(labels: Sequence[np.ndarray], file: str) -> None:
    """Refuse numbers to predict that single precision, which they are learned in, changes.

    Raises:
        DataError: they lie close together around a number that is large beside their differences.
    """
    y = np.concatenate(labels)
    y = y[~np.isnan(y)]
    if not len(y) or y.min() == y.max():
        return
    off, deviation = float(np.abs(y - y.astype(np.float32)).max()), float(y.std())
    if off <= LOST * deviation:
        return
    raise DataError(
        f"{file}: y is around {y.mean():.6g} with a deviation of {deviation:.3g}, and single "
        f"precision, which numbers are learned in, changes it by up to {off:.3g}. Store y minus "
        "a constant such as its mean, divided by its deviation if that is tiny, the same "
        "constants in all files: y=(y - mean) / deviation."
    )


def hints(found: Mapping[str, Arrays]) -> Iterator[str]:
    """Notes on labels that may be meant otherwise."""
    for domain, arrays in found.items():
        key = f"data.{domain}_file={arrays.file}"
        if arrays.numbers:
            flat = np.unique(np.concatenate(arrays._labels()))
            flat = flat[~np.isnan(flat)]
            if 0 < len(flat) <= FEW_VALUES and (flat == np.rint(flat)).all():
                yield (
                    f"{key}: y holds floats, so numbers are predicted; it has {len(flat)} "
                    f"whole value{'s'[: len(flat) != 1]}. If they are classes, store them as "
                    "integers: y.astype(int)."
                )
        elif len(arrays.classes) > MANY_CLASSES and all(
            INTEGER.fullmatch(name) for name in arrays.classes
        ):
            yield (
                f"{key}: y holds {len(arrays.classes):,} different integers, which are taken as "
                "classes. If numbers are to be predicted, store them as floats: y.astype(float)."
            )
