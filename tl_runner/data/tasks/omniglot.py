"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people; as few-shot tasks.

Lake, Salakhutdinov & Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 2015. The split of characters is the papers' in its sizes, 1,200 for training
and 423 for tests at random over alphabets, and drawn anew with each seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image

from tl_runner import randomness
from tl_runner.data.domain import BY_HAND, Stamp, sha256, stamp, torchvision_datasets
from tl_runner.data.fewshot_task import by_class, fewshot
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import DataError
from tl_runner.files import claimed

FOLDER, PARTS = "omniglot-py", ("images_background", "images_evaluation")
CHARACTERS, DRAWINGS, SIDE = 1623, 20, 28
TRAINED = 1200  # of the characters, those of validation among them


def load(
    *,
    root: str,
    download: bool,
    cache: str,
    ways: int,
    shots: int,
    queries: int,
    training: Mapping[str, int | None],
    tasks: Mapping[str, int],
    val_classes: int,
    rotations: Mapping[str, bool],
    seed: int,
) -> Task:
    """Task of Omniglot's characters; ``seed`` draws which are for training and which for tests.

    Args:
        root: the folder that holds ``omniglot-py``, with the two zip files or their folders.
        download: fetch what is missing there.
        cache: the folder that keeps the decoded images.
        ways, shots, queries, training, tasks, rotations: as
            :func:`tl_runner.data.fewshot_task.fewshot`'s.
        val_classes: characters of the 1,200 that validation tasks are made of.

    Raises:
        DataError: a file is missing or damaged; or the download failed.
    """
    paths = find(Path(root).expanduser(), download)
    split = decoded(paths, Path(cache).expanduser() / "omniglot")
    generator = randomness.generator(seed, "omniglot")
    parts = by_class(split, (TRAINED - val_classes, val_classes, CHARACTERS - TRAINED), generator)
    protocol = f"{TRAINED - val_classes:,} / {val_classes} / {CHARACTERS - TRAINED} characters"
    sums = {
        f"{FOLDER}/{path.name}": sha256(str(path), path.stat().st_mtime_ns)
        for path in paths
        if path.is_file()
    }
    if len(sums) < len(paths):  # a folder has no sum of its own
        sums[f"{FOLDER}, decoded"] = hashlib.sha256(split.x.numpy().tobytes()).hexdigest()
    return fewshot(
        "omniglot",
        parts,
        ways=ways,
        shots=shots,
        queries=queries,
        training=training,
        tasks=tasks,
        rotations=rotations,
        protocol=protocol,
        checksums=sums,
    )


def find(root: Path, download: bool) -> list[Path]:
    """Folder of each part, or else its zip file.

    Fetched first if ``download`` and one is missing.
    """
    if (there := _there(root)) is None and download:
        try:
            for background in (True, False):
                torchvision_datasets().Omniglot(str(root), background=background, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"The download of Omniglot failed: {error}\n  Wanted: {_wanted(root)}.\n  Or "
                f"{_by_hand()}."
            ) from error
        there = _there(root)
    if there is None:
        raise DataError(
            f"Omniglot is not complete: {_wanted(root)}; not found.\n"
            "  Add data.download=true, or point data.root (or TL_DATA_ROOT) at the folder that "
            f"holds {FOLDER};\n  or {_by_hand()}."
        )
    return there


def _there(root: Path) -> list[Path] | None:
    found = []
    for part in PARTS:
        folder, file = root / FOLDER / part, root / FOLDER / f"{part}.zip"
        if not folder.is_dir() and not file.is_file():
            return None
        found.append(folder if folder.is_dir() else file)
    return found


def _wanted(root: Path) -> str:
    return " and ".join(f"{root / FOLDER / part}.zip (or that folder, unpacked)" for part in PARTS)


def _by_hand() -> str:
    return BY_HAND.replace("data=fonts2digits", "data=glyphs")


def decoded(paths: list[Path], cache: Path) -> Split:
    """All drawings, uint8 (32460, 1, 28, 28), ink 255, by character.

    Decoded once, then read from ``cache``.

    Raises:
        DataError: a drawing cannot be read, or some are missing; the cache cannot be written.
    """
    files = [
        file
        for path in paths
        for file in (sorted(path.rglob("*.png")) if path.is_dir() else [path])
    ]
    marks: Stamp = stamp(files)
    array = cache / f"{hashlib.sha256(json.dumps([SIDE, marks]).encode()).hexdigest()[:32]}.npy"
    try:
        with claimed(array.with_suffix(".lock")):  # the jobs of a sweep decode once, not each
            if not array.exists():
                x = _decode(paths)
                half = array.with_suffix(".tmp")
                with open(half, "wb") as file:
                    np.save(file, x)
                half.rename(array)
        x = np.load(array, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the decoded drawings cannot be kept in or read from {cache} ({error}). Point "
            "cache.dir elsewhere."
        ) from error
    return Split(
        torch.from_numpy(x),
        torch.arange(CHARACTERS).repeat_interleave(DRAWINGS),
        torch.arange(len(x)),
    )


def _decode(paths: list[Path]) -> np.ndarray:
    by_character: dict[str, list[np.ndarray]] = {}
    for path in paths:
        try:
            for name, content in _contents(path):
                with Image.open(BytesIO(content), formats=["PNG"]) as image:
                    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                by_character.setdefault(name.rpartition("/")[0], []).append(255 - np.asarray(small))
        except (OSError, BadZipFile, SyntaxError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({type(error).__name__}: {error}). Fetch it anew, or "
                f"{_by_hand()}."
            ) from error
    wrong = sorted(name for name, images in by_character.items() if len(images) != DRAWINGS)
    if wrong or len(by_character) != CHARACTERS:
        there = (
            f"{wrong[0]} has {len(by_character[wrong[0]])} drawings of {DRAWINGS}"
            if wrong
            else f"{len(by_character):,} characters"
        )
        raise DataError(
            f"Omniglot in {paths[0].parent} is not whole: {there}, expected {CHARACTERS:,} "
            "characters. Fetch it anew."
        )
    return np.stack([image for name in sorted(by_character) for image in by_character[name]])[
        :, None
    ]


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(part/alphabet/character/file, its bytes) of a folder or a zip file, by name."""
    if path.is_dir():
        for file in sorted(path.rglob("*.png")):
            yield f"{path.name}/{file.relative_to(path).as_posix()}", file.read_bytes()
        return
    with ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".png") and "__MACOSX" not in name:
                yield name, archive.read(name)
