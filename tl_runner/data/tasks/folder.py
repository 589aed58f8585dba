"""Your own pictures: a folder of ``class/...`` for the target, and one for a source if wanted.

Each is ``class/...``, drawn into train, val and test by the seed, or ``train/class/...``,
``val/class/...``, ``test/class/...``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.pictures import SUFFIXES, decode
from tl_runner.data.splits import Split, hold_out, see_labels
from tl_runner.data.task import Task
from tl_runner.errors import DataError, human_list, nearest

PARTS = ("train", "val", "test")
NAMED = 5  # paths of a longer list that a message names


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder.

    Attributes:
        root: the folder.
        classes: names, sorted.
        files: sorted by class and path.
        labels: of each file, a position in ``classes``.
        parts: of each file, ``train``, ``val`` or ``test``; None where the folder leaves that to
            the seed.
        ignored: how many files are no pictures by their name.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...] | None
    ignored: int


def load(
    *,
    target_dir: str,
    source_dir: str | None,
    target_classes: Sequence[str] | None,
    source_classes: Sequence[str] | None,
    size: int,
    channels: int,
    fit: str,
    val_fraction: float,
    test_fraction: float,
    source_test_fraction: float,
    target_labels: int | str,
    unreadable: str,
    workers: int,
    cache: str,
    seed: int,
) -> Task:
    """Task of one folder, or of a source's and a target's.

    ``seed`` draws the validation part of folders that have none. A test part is drawn as well, the
    same for every seed.

    Args:
        target_dir, source_dir: the folders; without a source there is only a target.
        target_classes, source_classes: those of the folder's classes that count; None is all. So
            one folder can be both.
        size, channels: what every image is brought to, 1 or 3 channels.
        fit: ``crop`` or ``stretch``.
        val_fraction, test_fraction: of each class, where the folder has no such part of its own;
            ``source_test_fraction`` for the source.
        target_labels: how many of each class of the target training may see, or ``all``.
        unreadable: ``fail`` or ``skip`` where a file cannot be read.
        workers: processes that decode.
        cache: the folder that keeps what was decoded.

    Raises:
        DataError: a folder is missing, has no classes or an empty one, or holds a file that cannot
            be read.
    """
    # one test set for all seeds
    generators = {
        "val": torch.Generator().manual_seed(seed),
        "test": torch.Generator().manual_seed(0),
    }
    folders = {"target": target_dir} | ({"source": source_dir} if source_dir else {})
    chosen = {"target": target_classes, "source": source_classes}
    tested = {"target": test_fraction, "source": source_test_fraction}
    listings = {
        domain: listing_of(Path(folder).expanduser(), domain, chosen[domain])
        for domain, folder in folders.items()
    }
    once(listings)
    splits: dict[str, Split] = {}
    checksums, notes = {}, []
    for domain in sorted(listings):  # the source first
        listing = listings[domain]
        found = decode(
            listing.root,
            listing.files,
            size=size,
            channels=channels,
            fit=fit,
            workers=workers,
            cache=Path(cache).expanduser() / "pictures",
        )
        if found.unreadable and unreadable == "fail":
            raise DataError(cannot_be_read(listing, found.unreadable))
        checksums[f"{domain}: {listing.root}"] = found.digest
        good = torch.tensor([i not in found.unreadable for i in range(len(listing.files))])
        all_files = Split(found.x, torch.tensor(listing.labels), torch.arange(len(listing.files)))
        parts = divided(listing, good, {"test": tested[domain], "val": val_fraction}, generators)
        named = {part: all_files.take(rows) for part, rows in parts.items() if len(rows)}
        for part in PARTS:
            if part not in named and part != "val":
                raise DataError(
                    f"{listing.root}: no picture is left for {part}. Raise the fractions, or add "
                    "pictures."
                )
        if domain == "source":
            splits |= {f"source_{part}": split for part, split in named.items()}
        else:
            splits |= see_labels(named["train"], target_labels, generators["val"])
            splits["target_test"] = named["test"]
            if "target_labelled" in splits and "val" in named:
                splits["target_val"] = named["val"]
        skipped = f", {len(found.unreadable):,} unreadable ones skipped" if found.unreadable else ""
        skipped += f", {listing.ignored:,} other files ignored" if listing.ignored else ""
        notes.append(
            f"{domain} {listing.root.name}: {len(named['train']):,} / {len(named['test']):,} "
            f"pictures{skipped}"
        )
    return Task(
        name="2".join(listing.root.name for _, listing in sorted(listings.items())),
        classes=listings["target"].classes,
        source_classes=other_classes(listings),
        splits=splits,
        protocol=f"{'; '.join(notes)}; {size}x{size} in {'colour' if channels == 3 else 'grey'}",
        checksums=checksums,
    )


def listing_of(root: Path, domain: str, chosen: Sequence[str] | None = None) -> Listing:
    """Pictures that a folder holds, or those of its ``chosen`` classes alone.

    Raises:
        DataError: it is not there, is no folder, has no class or not a chosen one, or one without
            pictures.
    """
    key = f"data.{domain}_dir"
    if not root.is_dir():
        raise DataError(
            f"{key}={root}: there is no such folder. It should hold one folder a class, with the "
            "class's pictures in it."
        )
    inside = folders_of(root)
    parted = {"train"} <= {f.name for f in inside} <= {*PARTS}
    roots = {f.name: f for f in inside} if parted else {"": root}
    classes = sorted({c.name for r in roots.values() for c in folders_of(r)})
    if not classes:
        raise DataError(
            f"{key}={root} holds no folder of a class: put the pictures of a class into a folder "
            "with its name."
        )
    if len(classes) == 1:
        raise DataError(
            f"{key}={root} holds one class, {classes[0]}: a classifier needs two folders or more."
        )
    if chosen:
        wanted = [str(name) for name in chosen]
        if unknown := [name for name in wanted if name not in classes]:
            hints = "".join(nearest(name, classes) for name in unknown)
            raise DataError(
                f"data.{domain}_classes: {root} has no class {human_list(unknown, NAMED)}. It has "
                f"{human_list(classes, NAMED)}.{hints}"
            )
        classes = sorted({*wanted})
    rows: list[tuple[int, Path, str]] = []
    ignored, empty = 0, []
    for part, here in roots.items():
        for label, name in enumerate(classes):
            every = sorted(
                f
                for f in (here / name).rglob("*")
                if f.is_file() and not hidden(f.relative_to(here))
            )
            pictures = [f for f in every if f.suffix.lower() in SUFFIXES]
            ignored += len(every) - len(pictures)
            if not pictures and part in ("", "train"):
                empty.append(str((here / name).relative_to(root)))
            rows += [(label, f, part) for f in pictures]
    if empty:
        kinds = ", ".join(SUFFIXES)
        raise DataError(
            f"{key}={root}: no picture ({kinds}) in {human_list(empty, NAMED)}. Add some, or "
            "remove the folder."
        )
    rows.sort()
    return Listing(
        root,
        tuple(classes),
        tuple(f for _, f, _ in rows),
        tuple(label for label, _, _ in rows),
        tuple(part for _, _, part in rows) if parted else None,
        ignored,
    )


def once(listings: Mapping[str, Listing]) -> None:
    """Refuse a class that is in both domains, where one folder is both.

    Test pictures of one would train the other.

    Raises:
        DataError: a class is.
    """
    if {"source", "target"} <= listings.keys() and len(
        {listing.root.resolve() for listing in listings.values()}
    ) == 1:
        both = sorted({*listings["source"].classes} & {*listings["target"].classes})
        if both:
            raise DataError(
                "data.source_dir and data.target_dir are one folder, and "
                f"{human_list(both, NAMED)} would be in both domains. "
                "Give data.source_classes and data.target_classes that have no class in common."
            )


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def folders_of(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def other_classes(listings: Mapping[str, Listing]) -> tuple[str, ...] | None:
    """Classes of the source, where their names are not the target's."""
    classes = {domain: listing.classes for domain, listing in listings.items()}
    return (
        classes["source"] if classes.get("source", classes["target"]) != classes["target"] else None
    )


def divided(
    listing: Listing,
    good: Tensor,
    fractions: Mapping[str, float],
    generators: Mapping[str, torch.Generator],
) -> Mapping[str, Tensor]:
    """Rows of train, val and test, sorted.

    A part that the folder does not have is drawn from its training part, class by class.
    """
    labels = torch.tensor(listing.labels)
    given = (
        {part: good & torch.tensor([p == part for p in listing.parts]) for part in PARTS}
        if listing.parts
        else {"train": good}
    )
    rows = {part: mask.nonzero().squeeze(1) for part, mask in given.items() if mask.any()}
    for part, fraction in fractions.items():
        if part not in rows:
            halves = []
            for c in labels[rows["train"]].unique():
                own = rows["train"][labels[rows["train"]] == c]
                halves.append(
                    [own[half] for half in hold_out(len(own), fraction, generators[part])]
                )
            rows["train"], rows[part] = (
                torch.cat(half).sort().values for half in zip(*halves, strict=True)
            )
    return rows


def cannot_be_read(listing: Listing, unreadable: Mapping[int, str]) -> str:
    """Message for files that PIL cannot read."""
    some = [f"  {listing.files[i]}: {why}" for i, why in sorted(unreadable.items())]
    more = [f"  ... and {len(some) - NAMED:,} more"] if len(some) > NAMED else []
    head = f"{len(some):,} of {len(listing.files):,} pictures cannot be read:"
    return "\n".join(
        [
            head,
            *some[:NAMED],
            *more,
            "  Mend or remove them, or leave them out with data.unreadable=skip.",
        ]
    )
