"""Feature vectors of any kind, embeddings of texts or rows of a table, from ``.npz`` files.

A vector is an image of d channels and one pixel.
A file holds ``x``, float (N, d), and ``y``, N integers or names of classes, or floats, the numbers
that are asked for; where it holds ``x_test`` and ``y_test`` as well, these are its test part.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tl_runner.data.splits import Split, hold_out, see_labels
from tl_runner.data.task import Task
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


@dataclass(frozen=True)
class Arrays:
    """One file: its training part, its test part if it has one, and the digest.

    Vectors float32 (N, d); labels text, or float32 where they are numbers.
    """

    x: np.ndarray
    y: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None
    digest: str

    @property
    def numbers(self) -> bool:
        return self.y.dtype.kind == "f"

    @property
    def classes(self) -> list[str]:
        """Names of the classes, integers by size; none of numbers."""
        if self.numbers:
            return []
        names = {*self.y, *(self.test[1] if self.test else ())}
        return sorted(
            names,
            key=lambda name: (
                (0, float(name), "") if re.fullmatch("-?[0-9]+", name) else (1, 0.0, name)
            ),
        )


def load(
    *,
    target_file: str,
    source_file: str | None,
    standardise: bool,
    val_fraction: float,
    test_fraction: float,
    target_labels: int | str,
    seed: int,
) -> Task:
    """Task of one file, or of a source's and a target's.

    ``seed`` draws the validation part; a test part that a file does not have is drawn as well, the
    same for every seed.

    Args:
        target_file, source_file: the files; without a source there is only a target.
        standardise: each feature to mean 0 and deviation 1, by the training part of the source, or
            without one of the target.
        val_fraction, test_fraction: of each class; of numbers, of all rows.
        target_labels: how many of each class, or of numbers in all, of the target training may see,
            or ``all``.

    Raises:
        DataError: a file is missing, damaged or not of this form, or the two have vectors of
            different lengths.
    """
    generators = {
        "val": torch.Generator().manual_seed(seed),
        "test": torch.Generator().manual_seed(0),
    }
    files = ({"source": source_file} if source_file else {}) | {"target": target_file}
    found = {
        domain: read(Path(file).expanduser(), f"data.{domain}_file")
        for domain, file in files.items()
    }
    lengths = {domain: arrays.x.shape[1] for domain, arrays in found.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(
            f"the source's vectors have {lengths['source']} numbers and the target's "
            f"{lengths['target']}: they must be of one kind."
        )
    if len({arrays.numbers for arrays in found.values()}) > 1:
        kinds = ", ".join(
            f"{'numbers' if arrays.numbers else 'classes'} in data.{domain}_file"
            for domain, arrays in found.items()
        )
        raise DataError(
            f"y is of two kinds: {kinds}. Floats are numbers to predict; store classes as "
            "integers or names in both."
        )
    parts = {
        domain: divided(arrays, test_fraction, val_fraction, generators)
        for domain, arrays in found.items()
    }
    scale = None
    if standardise:
        reference = next(iter(parts.values()))["train"].x
        mean, deviation = reference.mean(0), reference.std(0, correction=0)
        deviation = torch.where(deviation > 1e-8, deviation, 1.0)
        scale = {"mean": mean.flatten().tolist(), "deviation": deviation.flatten().tolist()}
        parts = {
            d: {p: Split((s.x - mean) / deviation, s.y, s.ids) for p, s in named.items()}
            for d, named in parts.items()
        }
    splits: dict[str, Split] = {
        f"source_{part}": split for part, split in parts.get("source", {}).items()
    }
    target = parts["target"]
    splits |= see_labels(target["train"], target_labels, generators["val"])
    if "target_labelled" in splits and "val" in target:
        splits["target_val"] = target["val"]
    splits["target_test"] = target["test"]
    classes = {domain: tuple(arrays.classes) for domain, arrays in found.items()}
    numbers = "; numbers are asked for" if found["target"].numbers else ""
    notes = [
        f"{d} {Path(files[d]).name}: {len(p['train']):,} / {len(p['test']):,} vectors"
        for d, p in parts.items()
    ]
    return Task(
        name="2".join(Path(str(file)).stem for file in files.values()),
        classes=classes["target"],
        splits=splits,
        protocol=f"{'; '.join(notes)}; of {lengths['target']} "
        f"numbers{', standardised' if standardise else ''}{numbers}",
        scale=scale,
        checksums={f"{d}: {files[d]}": arrays.digest for d, arrays in found.items()},
        source_classes=classes["source"]
        if classes.get("source", classes["target"]) != classes["target"]
        else None,
    )


def read(file: Path, key: str) -> Arrays:
    """Content of a file, checked.

    Raises:
        DataError: it is not there, no ``.npz``, or holds something else.
    """
    form = (
        "A file should hold x, numbers of shape (N, d), and y, N class numbers or names, or "
        "floats to predict: "
        "numpy.savez('name.npz', x=x, y=y)."
    )
    if file.is_dir():
        raise DataError(f"{key}={file} is a folder. {form}")
    if not file.is_file():
        raise DataError(f"{key}={file}: there is no such file. {form}")
    try:
        with np.load(file, allow_pickle=False) as content:
            held: Mapping[str, np.ndarray] = {
                name: content[name] for name in ("x", "y", "x_test", "y_test") if name in content
            }
            names = list(content)
    except UNREADABLE as error:
        raise DataError(
            f"{key}={file} cannot be read as .npz ({' '.join(str(error).split())[:200]}). {form}"
        ) from error
    if ("x_test" in held) != ("y_test" in held):
        raise DataError(f"{key}={file} has one of x_test and y_test without the other. {form}")
    if not {"x", "y"} <= held.keys():
        raise DataError(f"{key}={file} holds {', '.join(names) or 'nothing'}. {form}")
    pairs = [
        checked(held[f"x{end}"], held[f"y{end}"], f"{key}={file}: x{end}", form)
        for end in ("", "_test")
        if f"x{end}" in held and f"y{end}" in held
    ]
    if len({y.dtype.kind == "f" for _, y in pairs}) > 1:
        raise DataError(
            f"{key}={file}: one of y and y_test holds floats, numbers to predict, and the other "
            f"classes. {form}"
        )
    if len({x.shape[1] for x, _ in pairs}) > 1:
        raise DataError(f"{key}={file}: x and x_test have vectors of different lengths.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Arrays(*pairs[0], pairs[1] if len(pairs) > 1 else None, digest)


def read_vectors(file: Path) -> np.ndarray:
    """Array ``x`` of a file alone, float32 (N, d).

    Raises:
        UNREADABLE: it is no such file.
    """
    with np.load(file, allow_pickle=False) as content:
        x = content["x"]
    if x.ndim != 2 or not len(x) or x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        raise ValueError(f"x is {x.dtype} of shape {x.shape}, or not finite")
    return x.astype(np.float32)


def checked(x: np.ndarray, y: np.ndarray, where: str, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (N, d), and labels as text (N,), or float32 where these are numbers."""
    if x.ndim != 2 or not len(x) or not x.shape[1] or x.dtype.kind not in "fiub":
        raise DataError(f"{where} is {x.dtype} of shape {x.shape}. {form}")
    if y.shape != (len(x),) or y.dtype.kind not in "iuUbf":
        raise DataError(
            f"{where} has {len(x):,} rows, its labels are {y.dtype} of shape {y.shape}. {form}"
        )
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(1))
        raise DataError(
            f"{where} is NaN or infinite in {len(rows):,} row{'s'[: len(rows) != 1]}, the first "
            f"of them {rows[0]}. Mend or remove them."
        )
    if y.dtype.kind != "f":
        return x, y.astype(str)
    with np.errstate(over="ignore"):
        y = y.astype(np.float32)
    if not np.isfinite(y).all():
        wrong = int((~np.isfinite(y)).sum())
        raise DataError(
            f"{where}: its labels are NaN, infinite or beyond single precision in {wrong:,} rows. "
            "Mend or remove them."
        )
    return x, y


def divided(
    arrays: Arrays, test: float, val: float, generators: Mapping[str, torch.Generator]
) -> dict[str, Split]:
    """Train, val and test splits, drawn class by class, or at random where labels are numbers.

    An empty val is left out.
    """
    numbers = {name: i for i, name in enumerate(arrays.classes)}

    def split(x: np.ndarray, y: np.ndarray, start: int = 0) -> Split:
        labels = (
            torch.from_numpy(y) if arrays.numbers else torch.tensor([numbers[name] for name in y])
        )
        return Split(
            torch.from_numpy(x)[:, :, None, None], labels, torch.arange(start, start + len(x))
        )

    everything = split(arrays.x, arrays.y)
    parts = {"train": torch.arange(len(everything))}
    given = {"test": split(*arrays.test, start=len(everything))} if arrays.test else {}
    for part, fraction in (("test", test), ("val", val)):
        if part not in given:
            assert everything.y is not None
            rows, y = parts["train"], everything.y[parts["train"]]
            groups = [rows] if arrays.numbers else [rows[y == c] for c in y.unique()]
            halves = [
                [group[half] for half in hold_out(len(group), fraction, generators[part])]
                for group in groups
            ]
            parts["train"], parts[part] = (
                torch.cat(half).sort().values for half in zip(*halves, strict=True)
            )
    found = {part: everything.take(rows) for part, rows in parts.items() if len(rows)} | given
    for part in ("train", "test"):
        if part not in found:
            raise DataError(
                f"no row is left for {part}: raise data.{part}_fraction, or add rows."
                if part == "test"
                else "no row is left for training."
            )
    return found
