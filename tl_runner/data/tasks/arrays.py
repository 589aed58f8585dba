"""Feature vectors of any kind, embeddings of texts or rows of a table, from ``.npz`` files.

A vector is an image of d channels and one pixel.
A file holds ``x``, float (N, d), and ``y``, N integers or names of classes, or floats, the numbers
that are asked for; where it holds ``x_test`` and ``y_test`` as well, these are its test part. A
target beside a source may be without ``y``, or have -1 (classes) or NaN (numbers) in it for rows
without a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tl_runner.data.splits import Split, budget, hold_out, labelled_rows, target_splits
from tl_runner.data.task import Task
from tl_runner.data.tasks._arrays_scaled import Parts, in_single_precision, scaled
from tl_runner.data.tasks._arrays_together import check_together
from tl_runner.data.vectors import NO_LABEL, Arrays, hints, read
from tl_runner.errors import DataError

NONE = -1  # of a row without a label, as a position among the classes


def load(
    *,
    target_file: str,
    source_file: str | None,
    standardise: bool,
    val_fraction: float,
    test_fraction: float,
    target_labels: int | str | None,
    transductive: bool | None,
    passes: float | None,
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
            or ``all``; None: all that there are where only some rows have one, else 0.
        transductive: where the target has no part to test on, test on its training rows that have
            a label which training does not see; None: where training sees no labels at all.
        passes: as a :class:`Task` has them.

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
    found = {
        domain: arrays.masked(found["source"].classes if domain != next(iter(found)) else ())
        for domain, arrays in found.items()
    }
    check_together(found)
    if not found["target"].labelled().any():  # of whatever kind the source's are
        found["target"] = replace(found["target"], y=None)
    classes = {domain: tuple(arrays.classes) for domain, arrays in found.items()}
    if source_file and not found["target"].labelled().all():
        classes["target"] = classes["source"]
    numbers = any(arrays.numbers for arrays in found.values())
    whole = {d: everything(arrays, classes[d], numbers) for d, arrays in found.items()}
    fractions = {"test": test_fraction, "val": val_fraction}
    target = whole["target"]
    labels = budget(target["train"], target_labels)
    transductive = labels == 0 if transductive is None else transductive
    fractions_there = {
        "test": 0.0 if transductive else test_fraction,
        "val": 0.0 if labels == 0 else val_fraction,
    }
    parts = {
        d: divided(given, fractions if d == "source" else fractions_there, generators)
        for d, given in whole.items()
    }
    for domain, named in parts.items():
        for part in ("train", "test") if domain == "source" else ("train",):
            needed(named, part, domain, found[domain])
    parts, scale = scaled(parts) if standardise else (parts, None)
    parts = in_single_precision(parts, found, scale)
    splits = {f"source_{part}": split for part, split in parts.get("source", {}).items()}
    splits |= target_splits(parts["target"], labels, transductive, generators["val"])
    if labels == 0 and "target_test" not in splits and found["target"].labelled().all():
        needed({}, "test", "target", found["target"])
    return Task(
        name="2".join(Path(str(file)).stem for file in files.values()),
        classes=classes["target"],
        splits=splits,
        protocol="; ".join(
            [
                *(said(d, found[d], splits) for d in parts),
                *([f"{len(classes['target'])} classes"] if not numbers else []),
                f"of {target['train'].x.shape[1]} numbers{', standardised' if scale else ''}"
                + ("; numbers are asked for" if numbers else ""),
            ]
        ),
        scale=scale,
        checksums={f"{d}: {files[d]}": arrays.digest for d, arrays in found.items()},
        source_classes=classes["source"]
        if classes.get("source", classes["target"]) != classes["target"]
        else None,
        files=rows_of(found["target"]),
        passes=passes,
        notes=tuple(hints(found)),
    )


def rows_of(target: Arrays) -> dict[str, list[str]]:
    """Names of the target's rows, where some have no label: ``x[3]``, ``x_test[0]``."""
    if target.labelled().all():
        return {}
    rows = [f"x[{i}]" for i in range(len(target.x))]
    tests = [f"x_test[{i}]" for i in range(len(target.test[0]))] if target.test else []
    return {"target": rows + tests}


def said(domain: str, arrays: Arrays, splits: Mapping[str, Split]) -> str:
    """A domain in the protocol: its vectors to train and to test on."""
    train, test = splits[f"{domain}_train"], splits.get(f"{domain}_test")
    counts = [f"{len(split):,}" for split in (train, test) if split is not None]
    text = f"{domain} {arrays.file.name}: {' / '.join(counts)} vectors"
    if domain == "target" and test is None:
        if (seen := splits.get("target_labelled")) is not None:
            return f"{text}, {len(seen):,} with labels that training sees, and none to test on"
        comma = "," if arrays.labelled().any() else ""
        return f"{text}{comma} without {'their ' if comma else ''}labels, and none to test on"
    if domain == "target" and test is not None and _overlap(train, test):
        return f"{text}, tested on those that it adapts to, without their labels"
    return text


def _overlap(one: Split, other: Split) -> bool:
    """Whether some samples are in both."""
    return bool(torch.isin(one.ids, other.ids).any())


def everything(arrays: Arrays, classes: Sequence[str], numbers: bool) -> Parts:
    """The parts that a file itself has: vectors float64, no label as -1 or NaN."""
    positions = {name: i for i, name in enumerate(classes)} | {NO_LABEL: NONE}

    def split(x: np.ndarray, y: np.ndarray | None, start: int = 0) -> Split:
        if numbers:
            of = np.full(len(x), np.nan) if y is None else y
            labels = torch.from_numpy(of.astype(np.float32))
        else:
            names = [NO_LABEL] * len(x) if y is None else y
            labels = torch.tensor([positions[name] for name in names])
        return Split(
            torch.from_numpy(x)[:, :, None, None], labels, torch.arange(start, start + len(x))
        )

    tests = {"test": split(*arrays.test, start=len(arrays.x))} if arrays.test else {}
    return {"train": split(arrays.x, arrays.y), **tests}


def divided(
    given: Parts, fractions: Mapping[str, float], generators: Mapping[str, torch.Generator]
) -> Parts:
    """Train, val and test splits, drawn class by class, or at random where labels are numbers.

    Rows without a label stay in train, and an empty part is left out.
    """
    everything = given["train"]
    assert everything.y is not None
    rows = {"train": torch.arange(len(everything))}
    known = torch.zeros(len(everything), dtype=torch.bool)
    known[labelled_rows(everything)] = True
    for part, fraction in fractions.items():
        if part in given or not fraction:
            continue
        train = rows["train"]
        own = train[known[train]]
        y = everything.y[own]
        groups = [own] if y.is_floating_point() else [own[y == c] for c in y.unique()]
        halves = [(train[~known[train]], train[:0])]
        for group in groups:
            kept, held = hold_out(len(group), fraction, generators[part])
            halves.append((group[kept], group[held]))
        rows["train"], rows[part] = (
            torch.cat(half).sort().values for half in zip(*halves, strict=True)
        )
    drawn = {part: everything.take(own) for part, own in rows.items() if len(own)}
    return drawn | {part: split for part, split in given.items() if part != "train"}


def needed(parts: Parts, part: str, domain: str, arrays: Arrays) -> None:
    """Refuse a part without rows.

    Raises:
        DataError: it has none.
    """
    if part in parts:
        return
    assert arrays.y is not None
    most = len(arrays.x) if arrays.numbers else max(Counter(arrays.y.tolist()).values())
    if part == "train":
        cure = "lower data.test_fraction or data.val_fraction, or add rows"
    elif most > 1:  # of n rows a fraction above 1 / 2n is one
        cure = f"set data.test_fraction={(50 // most + 1) / 100:g} or more, or add rows"
    else:
        cure = f"add rows, two {'' if arrays.numbers else 'of a class '}at least"
    if part == "test" and domain == "target":
        cure += ", or leave data.transductive at null to test on the rows that it adapts to"
    raise DataError(
        f"data.{domain}_file={arrays.file}: no row is left for "
        f"{'training' if part == 'train' else part}: {cure}."
    )
