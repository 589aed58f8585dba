"""One set of pictures as a source and a target: some of its classes are one, others the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tl_runner.data.images import fitted
from tl_runner.data.splits import Split, see_labels
from tl_runner.data.task import Task
from tl_runner.data.tasks.digits import build, draw
from tl_runner.errors import ConfigError, DataError, human_list, nearest


def load(
    *,
    of: str,
    source_classes: Sequence[Any] | None,
    target_classes: Sequence[Any] | None,
    root: str,
    download: bool,
    size: int,
    channels: int,
    val_fraction: float,
    target_labels: int | str,
    seed: int,
    **own: Any,
) -> Task:
    """Task of one domain's classes; ``seed`` draws validation images and visible labels.

    Args:
        of: the name of the domain.
        source_classes, target_classes: names; without source classes there is no source, without
            target classes it is all the others.
        root: the folder that holds every downloaded set.
        size, channels: what every image is brought to.
        target_labels: how many of each class of the target training may see.
        own: the keys of the domain.

    Raises:
        ConfigError: no such domain, or one without these keys.
        DataError: no such class, or one that is in both; a file is missing, damaged or of the wrong
            size; or the download failed.
    """
    if not isinstance(of, str):
        raise ConfigError(["data.of: one domain."])
    domain = build(of, own)
    source = chosen("source", source_classes or [], domain.classes)
    target = chosen(
        "target",
        target_classes or [name for name in domain.classes if name not in source],
        domain.classes,
    )
    if both := [name for name in source if name in target]:
        raise DataError(
            f"data.source_classes and data.target_classes both name {human_list(both)}: a class is "
            "in one of them."
        )
    if len(target) < 2:
        raise DataError(
            f"data.source_classes leaves {human_list(target) if target else 'no class'} to the "
            "target, which needs two classes or more."
        )
    train, test, checksums = domain.read(Path(root).expanduser(), download, seed)
    train, test = (fitted(split, size, channels) for split in (train, test))
    generator = torch.Generator().manual_seed(seed)
    splits: dict[str, Split] = {}
    if source:
        kept, held_out = draw(
            of_classes(train, domain.classes, source), None, val_fraction, generator
        )
        splits = {
            "source_train": kept,
            "source_val": held_out,
            "source_test": of_classes(test, domain.classes, source),
        }
    kept, held_out = draw(of_classes(train, domain.classes, target), None, val_fraction, generator)
    splits |= see_labels(kept, target_labels, generator)
    if "target_labelled" in splits:
        splits["target_val"] = held_out
    splits["target_test"] = of_classes(test, domain.classes, target)
    notes = [f"{len(kept):,} training images of {human_list(target)}", *domain.notes()]
    if source:
        notes.insert(0, f"{len(splits['source_train']):,} training images of {human_list(source)}")
    return Task(
        name=f"{of}: {' '.join(source)} to {' '.join(target)}" if source else of,
        classes=target,
        splits={name: split for name, split in splits.items() if len(split)},
        protocol=f"{domain.title}: {', then '.join(notes)}",
        checksums=checksums,
        source_classes=source or None,
    )


def chosen(side: str, names: Sequence[Any], known: Sequence[str]) -> tuple[str, ...]:
    """Chosen names in the order of the domain's classes.

    Raises:
        DataError: the domain has no such class.
    """
    wanted = [str(name) for name in names]
    if unknown := [name for name in wanted if name not in known]:
        hints = "".join(nearest(name, known) for name in unknown)
        raise DataError(
            f"data.{side}_classes: there is no class {human_list(unknown)}. There are "
            f"{human_list(known)}.{hints}"
        )
    return tuple(name for name in known if name in wanted)


def of_classes(split: Split, classes: Sequence[str], wanted: Sequence[str]) -> Split:
    """Samples of the ``wanted`` classes, their labels counted in these."""
    assert split.y is not None
    new = torch.tensor([wanted.index(name) if name in wanted else -1 for name in classes])
    rows = (new[split.y] >= 0).nonzero().squeeze(1)
    found = split.take(rows)
    assert found.y is not None
    return Split(found.x, new[found.y], found.ids)
