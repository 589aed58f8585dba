"""MNIST and USPS, read by torchvision, as the two domains of one task; either can be the source.

Protocols: ``full`` uses every training image; ``sampled`` draws 2,000 of MNIST and 1,800 of USPS by the run's seed, as
CoGAN (Liu & Tuzel 2016) and ADDA (Tzeng et al. 2017) do. Tests always use a whole test set. Images are 28x28 in
0..255; USPS's 16x16 are resized bilinearly. torchvision's USPS is LIBSVM's copy, a slightly smoothed one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.data.tasks import Split, Task, hold_out, see_labels
from tl_runner.errors import DataError

SAMPLED = {"mnist": 2000, "usps": 1800}
FILES = {
    "mnist": tuple(f"MNIST/raw/{part}-ubyte" for part in
                   ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")),
    "usps": ("USPS/usps.bz2", "USPS/usps.t.bz2"),
}  # fmt: skip
SIZES = {"mnist": (60_000, 10_000), "usps": (7_291, 2_007)}
TITLE = {"mnist": "MNIST", "usps": "USPS"}
RANDOM_SPLIT = 1_860  # test images of usps_split=random: 7,438 / 1,860 of the 9,298, drawn once
BY_HAND = "fetch the files yourself into that folder, or run data=fonts2digits, which needs no download"


def load(
    *,
    source: str,
    target: str,
    root: str,
    download: bool,
    protocol: str,
    usps_split: str,
    val_fraction: float,
    target_labels: int | str,
    seed: int,
) -> Task:
    """The task; ``seed`` draws the samples of the protocol and the held-out part.

    Raises:
        DataError: a file is missing, damaged or of the wrong size; or the download failed.
    """
    if {source, target} != set(FILES):
        raise DataError(f"data.source={source}, data.target={target}: one must be mnist and the other usps.")
    folder = Path(root).expanduser()
    checksums: dict[str, str] = {}
    domains = {}
    for name in (source, target):
        paths = find(name, folder, download)
        domains[name] = read(name, folder, tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths))
        checksums |= {str(p.relative_to(folder)): sha256(str(p), p.stat().st_mtime_ns) for p in paths}
    if "usps" in domains and usps_split == "random":
        domains["usps"] = resplit(*domains["usps"], RANDOM_SPLIT)

    generator = torch.Generator().manual_seed(seed)
    train, val, words = {}, {}, []
    for name, (images, _) in domains.items():
        train[name], val[name] = draw(images, SAMPLED[name] if protocol == "sampled" else None, val_fraction, generator)
        words.append(f"{len(train[name]):,} {TITLE[name]}")
    if protocol == "full":  # the source's held-out images still train the target's side: it has no labels to validate with
        train[target] = domains[target][0]
        words[1] = f"{len(train[target]):,} {TITLE[target]}"
    split = f", USPS split {usps_split}" if "usps" in domains else ""
    return Task(
        name=f"{source}2{target}",
        classes=tuple("0123456789"),
        splits={
            "source_train": train[source],
            **({"source_val": val[source]} if len(val[source]) else {}),
            "source_test": domains[source][1],
            **see_labels(train[target], target_labels, generator),
            "target_test": domains[target][1],
        },
        protocol=f"{protocol}: {' and '.join(words)} training images{split}",
        checksums=checksums,
    )


def draw(images: Split, sample: int | None, val_fraction: float, generator: torch.Generator) -> tuple[Split, Split]:
    """(train, validation). A sample leaves its size whole and takes the validation images from the rest."""
    if sample is None:
        kept, held_out = hold_out(len(images), val_fraction, generator)
        return images.take(kept), images.take(held_out)
    order = torch.randperm(len(images), generator=generator)
    extra = round(sample * val_fraction)
    return images.take(order[:sample].sort().values), images.take(order[sample : sample + extra].sort().values)


def resplit(train: Split, test: Split, n_test: int) -> tuple[Split, Split]:
    """Both sets pooled and split anew, once and for all; ids number the pool."""
    assert train.y is not None
    assert test.y is not None
    x, y = torch.cat((train.x, test.x)), torch.cat((train.y, test.y))
    kept, held_out = hold_out(len(x), n_test / len(x), torch.Generator().manual_seed(2017))
    pool = Split(x, y, torch.arange(len(x)))
    return pool.take(kept), pool.take(held_out)


def find(name: str, root: Path, download: bool) -> list[Path]:
    """The data set's files under ``root``; fetched there first if ``download`` and one is missing."""
    paths = [root / f for f in FILES[name]]
    missing = [p for p in paths if not p.is_file()]
    if missing and root.exists() and not root.is_dir():
        raise DataError(f"data.root={root} is a file. Point it at a folder that holds {FILES[name][0].split('/')[0]}/.")
    if missing and download:
        fetch(name, root)
        missing = [p for p in paths if not p.is_file()]
    if missing:
        raise DataError(
            f"{TITLE[name]} is not complete: {', '.join(str(p) for p in missing)} not found.\n"
            f"  Add data.download=true, or point data.root (or TL_DATA_ROOT) at the folder that holds it;\n"
            f"  or {BY_HAND}."
        )
    empty = [p for p in paths if p.stat().st_size == 0]
    if empty:
        raise DataError(f"{empty[0]} is empty. Delete it and add data.download=true, or {BY_HAND}.")
    return paths


def fetch(name: str, root: Path) -> None:
    """Download by torchvision, which checks the MD5 sums.

    Raises:
        DataError: with the place to put the files by hand.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name == "mnist":
            _datasets().MNIST(str(root), download=True)
        else:
            for train in (True, False):
                (root / "USPS").mkdir(exist_ok=True)
                _datasets().USPS(str(root / "USPS"), train=train, download=True)
    except PermissionError as error:
        raise DataError(f"data.root={root} is not writable ({error.strerror}). Choose another data.root.") from error
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The download of {TITLE[name]} failed: {error}\n  Wanted: {', '.join(str(root / f) for f in FILES[name])}.\n  Or {BY_HAND}."
        ) from error


@cache
def read(name: str, root: Path, stamp: tuple[tuple[str, int, int], ...]) -> tuple[Split, Split]:
    """(train, test) of a data set whose files are there, uint8 (N, 1, 28, 28). ``stamp`` keys the cache: path,
    size and time of each file, so that the runs of one process share the tensors until a file changes.
    """
    splits = []
    for train, size in zip((True, False), SIZES[name], strict=True):
        files = [p for p, _, _ in stamp][:: 1 if name == "mnist" else (1 if train else -1)]
        try:
            x, y = _read_mnist(root, train) if name == "mnist" else _read_usps(root, train)
        except (OSError, EOFError, ValueError, RuntimeError, AssertionError, IndexError, TypeError) as error:
            where = ", ".join(files if name == "mnist" else files[:1])
            raise DataError(
                f"{TITLE[name]} cannot be read ({type(error).__name__}: {error}).\n"
                f"  A file is damaged or not what its name says: {where}.\n"
                f"  Delete it and add data.download=true, or {BY_HAND}."
            ) from error
        if len(x) != size or len(y) != size:
            raise DataError(
                f"{TITLE[name]}: {'training' if train else 'test'} files hold {len(x):,} images and {len(y):,} labels, "
                f"expected {size:,}.\n  They are cut short or swapped. Delete them and add data.download=true, or {BY_HAND}."
            )
        splits.append(Split(x, y, torch.arange(size)))
    return splits[0], splits[1]


def _datasets():  # torchvision takes seconds to import, and only these two data sets need it
    from torchvision import datasets

    return datasets


def _read_mnist(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    data = _datasets().MNIST(str(root), train=train, download=False)
    if data.data.shape[1:] != (28, 28):
        raise ValueError(f"images of {tuple(data.data.shape[1:])}, not 28x28")
    return data.data[:, None], data.targets.long()


def _read_usps(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    data = _datasets().USPS(str(root / "USPS"), train=train, download=False)
    x = torch.from_numpy(data.data)[:, None].float()
    x = F.interpolate(x, (28, 28), mode="bilinear", align_corners=False).round_().to(torch.uint8)
    return x, torch.tensor(data.targets, dtype=torch.int64)


@cache
def sha256(path: str, mtime_ns: int) -> str:
    """The file's SHA-256, for the record."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
