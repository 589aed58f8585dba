"""Task of few-shot episodes, from a labelled split whose classes are dealt into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tl_runner.data.episodes import ImageEpisodes
from tl_runner.data.rows import in_parts
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import DataError, human_list

NAMED = 5  # of many, in a message
PARTS = ("train", "val", "test")  # meta-training, validation and test tasks


def fewshot(
    name: str,
    parts: Mapping[str, Split],
    *,
    ways: int,
    shots: int,
    queries: int,
    training: Mapping[str, Any],
    tasks: Mapping[str, int],
    rotations: Mapping[str, bool],
    protocol: str,
    checksums: Mapping[str, str] | None = None,
) -> Task:
    """Task of few-shot episodes over the classes of ``parts``: train, val and test.

    No part may share a class with another.

    Args:
        ways, shots, queries: of validation and test tasks.
        training: the same of training tasks, where they are others; None is the same.
        tasks: how many of them validation and test scores are means over: ``val``, ``test``.
        rotations: whether classes turned by 90, 180 and 270 degrees are classes too, in ``train``
            and in ``test`` (and val).
        protocol: what the parts are, in words.

    Raises:
        DataError: a part has too few classes, or too few images of one.
    """
    turns = [part for part, on in rotations.items() if on]
    parts = {
        part: turned(own) if ("train" if part == "train" else "test") in turns else own
        for part, own in parts.items()
    }
    usual = {"ways": ways, "shots": shots, "queries": queries}
    trained = usual | {key: value for key, value in training.items() if value is not None}
    episodes = {}
    for part, split in parts.items():
        sizes, section = (
            (trained, "data.training") if part == "train" and trained != usual else (usual, "data")
        )
        episodes[f"meta_{part}"] = ImageEpisodes(
            split, f"{name}: meta_{part}", **sizes, scored=tasks.get(part, 0), section=section
        )
    protocol += f", rotations as classes in {' and '.join(turns)}" if turns else ""
    sizes_in_words = (
        f"{ways}-way {shots}-shot, {queries} quer{'y' if queries == 1 else 'ies'} a class"
    )
    if trained != usual:
        sizes_in_words += (
            f" (training {trained['ways']}-way {trained['shots']}-shot, {trained['queries']})"
        )
    return Task(
        name=name,
        classes=tuple(str(i) for i in range(ways)),
        splits={},
        protocol=f"{sizes_in_words}; {protocol}",
        checksums=dict(checksums or {}),
        episodes=episodes,
    )


def by_class(split: Split, sizes: Sequence[int], generator: torch.Generator) -> dict[str, Split]:
    """Classes of a split at random as train, val and test parts of so many classes each.

    A part of none is left out.
    """
    assert split.y is not None
    classes = split.y.unique()
    order = classes[torch.randperm(len(classes), generator=generator)]
    parts = order[: sum(sizes)].split([*sizes])
    found = {
        part: split.take(torch.isin(split.y, own).nonzero().squeeze(1))
        for part, own in zip(PARTS, parts, strict=True)
        if len(own)
    }
    return found


def turned(split: Split) -> Split:
    """Split with each class also turned by 90, 180 and 270 degrees, as classes of their own.

    Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML 2016, section 4.2.
    """
    assert split.y is not None
    n = int(split.y.max()) + 1
    x = torch.cat([torch.rot90(part, k, (2, 3)) for k in range(4) for part in in_parts(split.x)])
    y = torch.cat([split.y + k * n for k in range(4)])
    return replace(split, x=x, y=y, ids=split.ids.repeat(4))


def large_enough(
    where: object,
    split: Split,
    names: Sequence[str],
    least: int,
    small_classes: str,
    what: str,
) -> tuple[Split, tuple[str, ...]]:
    """The samples of classes that have enough of them for a task, and these classes.

    Args:
        where: the data, for messages.
        names: of the classes.
        least: how many samples a task takes of a class.
        small_classes: ``fail`` or ``skip`` where a class has fewer.
        what: the samples are, in the plural.

    Raises:
        DataError: some have too few, and they are not to be left out.
    """
    assert split.y is not None
    counts = split.y.bincount(minlength=len(names)).tolist()
    small = [f"{c} {n}" for c, n in zip(names, counts, strict=True) if n < least]
    if not small:
        return split, tuple(names)
    if small_classes == "fail":
        raise DataError(
            f"{where}: a task takes {least} {what} of a class, and some have fewer: "
            f"{human_list(small, NAMED)}. Add {what}, lower data.shots or data.queries, or leave "
            "such classes out: data.small_classes=skip."
        )
    kept = [i for i, n in enumerate(counts) if n >= least]
    position = torch.full((len(counts),), -1)
    position[kept] = torch.arange(len(kept))
    rows = (position[split.y] >= 0).nonzero().squeeze(1)
    some = split.take(rows)
    assert some.y is not None
    return replace(some, y=position[some.y]), tuple(names[i] for i in kept)


def own_parts(
    where: object, found: Mapping[str, tuple[Split, tuple[str, ...]]]
) -> dict[str, Split]:
    """Parts that the data itself has, by name with their classes, once no class is in two.

    Raises:
        DataError: one is.
    """
    names = [(part, name) for part, (_, classes) in found.items() for name in classes]
    for part, name in names:
        if twice := [other for other, same in names if same == name and other != part]:
            raise DataError(
                f"{where}: the class {name} is in {part} and in {twice[0]}. Few-shot tests are of "
                "classes that were never trained on."
            )
    return {part: split for part, (split, _) in found.items()}


def drawn_parts(
    where: object,
    split: Split,
    names: Sequence[str],
    classes: Mapping[str, int],
    generator: torch.Generator,
) -> dict[str, Split]:
    """Parts of the classes ``names`` at random: so many for ``val`` and ``test``, the rest for
    training.

    Raises:
        DataError: fewer than two are left for training.
    """
    rest = len(names) - classes["val"] - classes["test"]
    if rest < 2:
        raise DataError(
            f"{where} has {len(names)} classes ({human_list(names, NAMED)}): "
            f"data.classes.val={classes['val']} and data.classes.test={classes['test']} "
            f"leave {max(rest, 0)} for training. Each part needs as many as a task takes, "
            "data.ways (and data.training.ways): lower them all, or give more classes."
        )
    return by_class(split, (rest, classes["val"], classes["test"]), generator)
