"""Your own pictures: a folder for the target, and one for a source if wanted.

Each is ``class/...``, drawn into train, val and test by the seed, or ``train/class/...``,
``val/class/...``, ``test/class/...``. A target beside a source may be pictures without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tl_runner.data.folder_names import NAMED, PARTS
from tl_runner.data.folder_words import also_trained_on, cannot_be_read, notes, said
from tl_runner.data.listing import NONE, Listing, listing_of
from tl_runner.data.pictures import Pictures, decode
from tl_runner.data.splits import Split, budget, hold_out
from tl_runner.data.splits import target_splits as of_target
from tl_runner.data.task import Task
from tl_runner.errors import DataError, human_list

Parts = dict[str, Split]


def load(
    *,
    target_dir: str,
    source_dir: str | None,
    target_classes: Sequence[str] | None,
    source_classes: Sequence[str] | None,
    size: int,
    channels: int,
    fit: str,
    range: Sequence[float] | None,
    val_fraction: float,
    test_fraction: float,
    source_test_fraction: float,
    target_labels: int | str | None,
    transductive: bool | None,
    passes: float | None,
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
        range: the pixels of files of more than 8 bits that become black and white; None: found.
        val_fraction, test_fraction: of each class, where the folder has no such part of its own;
            ``source_test_fraction`` for the source.
        target_labels: how many of each class of the target training may see, or ``all``; None: all
            that there are where only some pictures have one, else 0.
        transductive: where the target has no part to test on, test on its training pictures that
            have a label which training does not see; None: where training sees no labels at all.
        passes: as a :class:`Task` has them.
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
    listings: dict[str, Listing] = {}
    if source_dir:
        listings["source"] = listing_of(Path(source_dir).expanduser(), "source", source_classes)
    listings["target"] = listing_of(
        Path(target_dir).expanduser(),
        "target",
        target_classes,
        listings["source"].classes if source_dir else None,
        labels_wanted=bool(target_labels),
    )
    once(listings)
    decoded = {
        domain: decode(
            listing.root,
            listing.files,
            size=size,
            channels=channels,
            fit=fit,
            workers=workers,
            cache=Path(cache).expanduser() / "pictures",
            scale=range,
        )
        for domain, listing in listings.items()
    }
    refuse_unreadable(listings, decoded, unreadable)
    if range and not any(found.wide for found in decoded.values()):
        raise DataError(
            f"data.range={[*range]} is for pictures of more than 8 bits, and there are none. Leave "
            "it out."
        )
    splits: dict[str, Split] = {}
    if source_dir:
        parts = divided(
            listings["source"],
            whole(listings["source"], decoded["source"]),
            {"test": source_test_fraction, "val": val_fraction},
            generators,
            _good(decoded["source"]),
        )
        splits |= {f"source_{part}": split for part, split in parts.items()}
    splits |= target_splits(
        listings["target"],
        decoded["target"],
        {"test": test_fraction, "val": val_fraction},
        target_labels,
        transductive,
        generators,
    )
    splits["target_train"] = by_content(splits["target_train"], decoded["target"])
    target = listings["target"]
    return Task(
        name="2".join(listing.root.name for listing in listings.values()),
        classes=target.classes,
        source_classes=other_classes(listings),
        splits=splits,
        protocol="; ".join(
            [
                *(said(d, listing, decoded[d], splits) for d, listing in listings.items()),
                f"{len(target.classes)} classes: {human_list(target.classes, NAMED)}",
                f"{size}x{size} in {'colour' if channels == 3 else 'grey'}",
            ]
        ),
        checksums={f"{d}: {listing.root}": decoded[d].digest for d, listing in listings.items()},
        pixels=decoded["target"].scale,
        files=names(target),
        passes=passes,
        notes=tuple(
            note
            for domain, listing in listings.items()
            for note in [
                *notes(listing),
                *also_trained_on(domain, listing, decoded[domain], splits),
            ]
        ),
    )


def whole(listing: Listing, decoded: Pictures) -> Split:
    """Every picture of a folder; those that cannot be read are black."""
    return Split(decoded.x, torch.tensor(listing.labels), torch.arange(len(listing.files)))


def names(listing: Listing) -> dict[str, list[str]]:
    """Paths of the target's pictures in its folder, where some have no label."""
    if not listing.unlabelled:
        return {}
    return {"target": [file.relative_to(listing.root).as_posix() for file in listing.files]}


def by_content(split: Split, decoded: Pictures) -> Split:
    """A split in an order that no name and no folder of its files changes.

    The order of files by class would tell of labels that training may not see.
    """
    order = torch.tensor(decoded.order())
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return split.take(place[split.ids].argsort())


def target_splits(
    listing: Listing,
    decoded: Pictures,
    fractions: Mapping[str, float],
    target_labels: int | str | None,
    transductive: bool | None,
    generators: Mapping[str, torch.Generator],
) -> Parts:
    """The target's splits: to adapt to, to learn from, to validate and to test on.

    Where training sees no labels nothing is held out for validation, and all pictures that are
    not of a test part are there to adapt to; those with a label are tested on.
    """
    every = whole(listing, decoded)
    good = _good(decoded)
    given = {p: every.take(rows) for p, rows in given_rows(listing, good).items() if len(rows)}
    _not_empty(listing, given, ["train"])
    labels = budget(given["train"], target_labels)
    if transductive is None:
        transductive = labels == 0
    if labels == 0:
        fractions = {**fractions, "val": 0.0}
    if transductive:
        fractions = {**fractions, "test": 0.0}
    parts = divided(listing, every, fractions, generators, good, ["train"])
    splits = of_target(parts, labels, transductive, generators["val"])
    if "target_test" not in splits and not listing.unlabelled:
        _not_empty(listing, parts, ["test"])
    return splits


def refuse_unreadable(
    listings: Mapping[str, Listing], decoded: Mapping[str, Pictures], unreadable: str
) -> None:
    """Refuse files that cannot be read, unless they are to be left out.

    Raises:
        DataError: there are some.
    """
    for domain, found in decoded.items():
        if found.unreadable and unreadable == "fail":
            raise DataError(cannot_be_read(listings[domain], found.unreadable))


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


def other_classes(listings: Mapping[str, Listing]) -> tuple[str, ...] | None:
    """Classes of the source, where their names are not the target's."""
    classes = {domain: listing.classes for domain, listing in listings.items()}
    return (
        classes["source"] if classes.get("source", classes["target"]) != classes["target"] else None
    )


def _good(decoded: Pictures) -> Tensor:
    """Whether each file could be read, (N,)."""
    good = torch.ones(len(decoded.x), dtype=torch.bool)
    good[[*decoded.unreadable]] = False
    return good


def given_rows(listing: Listing, good: Tensor) -> dict[str, Tensor]:
    """Rows of the parts that the folder itself has, without files that could not be read."""
    if not listing.parts:
        return {"train": good.nonzero().squeeze(1)}
    masks = {part: good & torch.tensor([p == part for p in listing.parts]) for part in PARTS}
    return {part: mask.nonzero().squeeze(1) for part, mask in masks.items() if mask.any()}


def divided(
    listing: Listing,
    every: Split,
    fractions: Mapping[str, float],
    generators: Mapping[str, torch.Generator],
    good: Tensor,
    needed: Sequence[str] = ("train", "test"),
) -> Parts:
    """Train, val and test, in the folder's order; an empty val is left out.

    A part that the folder does not have is drawn from its training part, class by class, and
    pictures without a label stay there.

    Raises:
        DataError: no picture is left for one that is ``needed``.
    """
    assert every.y is not None
    labels = every.y
    rows = given_rows(listing, good)
    for part, fraction in fractions.items():
        if part not in rows and "train" in rows and fraction:
            train = rows["train"]
            halves = [(train[labels[train] == NONE], train[:0])]
            for c in labels[train].unique():
                if c != NONE:
                    own = train[labels[train] == c]
                    kept, held = hold_out(len(own), fraction, generators[part])
                    halves.append((own[kept], own[held]))
            rows["train"], rows[part] = (
                torch.cat(half).sort().values for half in zip(*halves, strict=True)
            )
    parts = {part: every.take(own) for part, own in rows.items() if len(own)}
    _not_empty(listing, parts, needed)
    return parts


def _not_empty(listing: Listing, parts: Mapping[str, Split], needed: Sequence[str]) -> None:
    """Refuse a part without pictures.

    Raises:
        DataError: one that is needed has none.
    """
    for part in needed:
        if part not in parts:
            raise DataError(
                f"{listing.root}: no picture is left for {part}. Raise the fractions, or add "
                "pictures."
            )
