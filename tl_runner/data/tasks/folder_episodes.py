"""Your own pictures as few-shot tasks: a folder of ``class/...``, or of parts of these.

Without parts the classes are drawn into some.

In the second form, in which few-shot sets are handed around, ``train``, ``val`` and ``test`` hold
different classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from tl_runner import randomness
from tl_runner.data.fewshot_task import PARTS, by_class, fewshot
from tl_runner.data.listing import folders_of, listing_of
from tl_runner.data.pictures import decode
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.data.tasks.folder import NAMED, cannot_be_read
from tl_runner.errors import DataError, human_list


def load(
    *,
    target_dir: str,
    size: int,
    channels: int,
    fit: str,
    unreadable: str,
    workers: int,
    cache: str,
    ways: int,
    shots: int,
    queries: int,
    training: Mapping[str, int | None],
    tasks: Mapping[str, int],
    classes: Mapping[str, int],
    rotations: Mapping[str, bool],
    seed: int,
) -> Task:
    """Task of few-shot episodes over the classes of a folder.

    ``seed`` draws which classes are for training, validation and tests, where the folder does not
    say so.

    Args:
        target_dir: the folder.
        size, channels, fit, unreadable, workers, cache: as the folder data's.
        ways, shots, queries, training, tasks, rotations: as
            :func:`tl_runner.data.fewshot_task.fewshot`'s.
        classes: how many ``val`` and ``test`` have, the rest is for training; not read where the
            folder has parts.

    Raises:
        DataError: a folder is missing or has too few classes; a class is in two parts or has too
            few pictures; a file cannot be read.
    """
    root = Path(target_dir).expanduser()
    inside = {f.name for f in folders_of(root)} if root.is_dir() else set()
    parted = {"train", "test"} <= inside <= {*PARTS}
    found: dict[str, tuple[Split, tuple[str, ...]]] = {}
    sums, skipped = {}, 0
    for part in [p for p in PARTS if p in inside] if parted else [""]:
        listing = listing_of(root / part, "target")
        decoded = decode(
            listing.root,
            listing.files,
            size=size,
            channels=channels,
            fit=fit,
            workers=workers,
            cache=Path(cache).expanduser() / "pictures",
        )
        if decoded.unreadable and unreadable == "fail":
            raise DataError(cannot_be_read(listing, decoded.unreadable))
        good = torch.tensor([i for i in range(len(listing.files)) if i not in decoded.unreadable])
        found[part] = (
            Split(decoded.x, torch.tensor(listing.labels), torch.arange(len(listing.files))).take(
                good
            ),
            listing.classes,
        )
        sums[str(listing.root)] = decoded.digest
        skipped += len(decoded.unreadable)
    parts = (
        own_parts(root, found)
        if parted
        else drawn_parts(root, *found[""], classes, randomness.generator(seed, "classes"))
    )
    numbers = " / ".join(
        f"{len(own.y.unique()) if own.y is not None else 0}" for own in parts.values()
    )
    protocol = (
        f"{root.name}: {numbers} classes ({', '.join(parts)}), {size}x{size} in "
        f"{'colour' if channels == 3 else 'grey'}"
    )
    protocol += f", {skipped:,} unreadable pictures skipped" if skipped else ""
    return fewshot(
        root.name,
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


def own_parts(root: Path, found: Mapping[str, tuple[Split, tuple[str, ...]]]) -> dict[str, Split]:
    """Parts of the folder itself, once no class is in two."""
    names = [(part, name) for part, (_, classes) in found.items() for name in classes]
    for part, name in names:
        if twice := [other for other, same in names if same == name and other != part]:
            raise DataError(
                f"{root}: the class {name} is in {part} and in {twice[0]}. Few-shot tests are of "
                "classes that were never trained on."
            )
    return {part: split for part, (split, _) in found.items()}


def drawn_parts(
    root: Path,
    split: Split,
    names: tuple[str, ...],
    classes: Mapping[str, int],
    generator: torch.Generator,
) -> dict[str, Split]:
    """Parts of the folder's classes at random."""
    rest = len(names) - classes["val"] - classes["test"]
    if rest < 2:
        raise DataError(
            f"{root} has {len(names)} classes ({human_list(names, NAMED)}): "
            f"data.classes.val={classes['val']} and data.classes.test={classes['test']} "
            f"leave {max(rest, 0)} for training. Lower them; a task takes data.ways classes."
        )
    return by_class(split, (rest, classes["val"], classes["test"]), generator)
