"""Your own pictures as few-shot tasks: a folder of ``class/...``, or of parts of these.

Without parts the classes are drawn into some.

In the second form, in which few-shot sets are handed around, ``train``, ``val`` and ``test`` hold
different classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from tl_runner import randomness
from tl_runner.data.fewshot_task import PARTS, drawn_parts, fewshot, large_enough, own_parts
from tl_runner.data.folder_names import parts_of
from tl_runner.data.folder_words import cannot_be_read, notes
from tl_runner.data.folders import is_folder
from tl_runner.data.listing import listing_of
from tl_runner.data.pictures import decode
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import DataError


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
    small_classes: str,
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
        small_classes: ``fail`` or ``skip`` where a class has too few pictures for a task.

    Raises:
        DataError: a folder is missing or has too few classes; a class is in two parts or has too
            few pictures; a file cannot be read.
    """
    root = Path(target_dir).expanduser()
    roots = parts_of(root, f"data.target_dir={root}") if is_folder(root) else {}
    parted = {"train", "test"} <= roots.keys()
    usual = shots + queries
    wanted = {"train": (training.get("shots") or shots) + (training.get("queries") or queries)}
    found: dict[str, tuple[Split, tuple[str, ...]]] = {}
    sums, skipped, ignored, small = {}, 0, 0, 0
    said: list[str] = []
    for part in [p for p in PARTS if p in roots] if parted else [""]:
        listing = listing_of(roots[part] if parted else root, "target")
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
        whole = Split(decoded.x, torch.tensor(listing.labels), torch.arange(len(listing.files)))
        least = wanted.get(part, usual) if parted else max(usual, wanted["train"])
        found[part] = large_enough(
            listing.root, whole.take(good), listing.classes, least, small_classes, "pictures"
        )
        small += len(listing.classes) - len(found[part][1])
        sums[str(listing.root)] = decoded.digest
        skipped += len(decoded.unreadable)
        ignored += listing.ignored
        said += notes(listing)
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
    protocol += f", {ignored:,} other files ignored" if ignored else ""
    protocol += f", {small:,} classes of too few pictures left out" if small else ""
    task = fewshot(
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
    return replace(task, notes=tuple(said))
