"""Feature vectors of any kind, embeddings of texts or rows of a table, from ``.npz`` files.

A vector is an image of d channels and one pixel.
A file holds ``x``, float (N, d), and ``y``, N integers or names of classes, or floats, the numbers
that are asked for; where it holds ``x_test`` and ``y_test`` as well, these are its test part. A
target beside a source may be without ``y``, or have -1 (classes) or NaN (numbers) in it for rows
without a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tl_runner.data.splits import Split, budget, hold_out, labelled_rows, target_splits
from tl_runner.data.task import Task
from tl_runner.data.vectors import FORM, NO_LABEL, Arrays, hints, read
from tl_runner.errors import DataError, human_list

NONE = -1  # of a row without a label, as a position among the classes

Parts = dict[str, Split]


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
    parts, scale = scaled(parts) if standardise else (parts, None)
    parts = {
        d: {p: replace(s, x=s.x.float()) for p, s in named.items()} for d, named in parts.items()
    }
    splits: dict[str, Split] = {}
    for domain, named in parts.items():
        if domain == "source":
            for part in ("train", "test"):
                needed(named, part)
            splits |= {f"source_{part}": split for part, split in named.items()}
    splits |= target_splits(parts["target"], labels, transductive, generators["val"])
    if labels == 0 and "target_test" not in splits and found["target"].labelled().all():
        needed({}, "test")
    return Task(
        name="2".join(Path(str(file)).stem for file in files.values()),
        classes=classes["target"],
        splits=splits,
        protocol="; ".join(
            [
                *(said(d, Path(files[d]).name, splits) for d in parts),
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


def check_together(found: Mapping[str, Arrays]) -> None:
    """Refuse files that do not go together, or whose labels are missing where they are needed.

    Raises:
        DataError: vectors of other lengths, labels of two kinds, a source with rows without labels,
            or a target without any beside no source; a class in the test part alone.
    """
    lengths = {domain: arrays.x.shape[1] for domain, arrays in found.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(
            f"the source's vectors have {lengths['source']} numbers and the target's "
            f"{lengths['target']}: they must be of one kind."
        )
    for domain, arrays in found.items():
        if domain == "source" and not arrays.labelled().all():
            raise DataError(
                f"data.source_file={arrays.file}: {int((~arrays.labelled()).sum()):,} of "
                f"{len(arrays.x):,} rows have no label, and a source is to learn from. Leave them "
                "out there."
            )
        known = found["source"].classes if "source" in found else ()
        if later := later_alone(arrays, known):
            raise DataError(
                f"data.{domain}_file={arrays.file}: {human_list(later, 5)} of y_test is not in "
                "y, so nothing could learn it. Add rows to x and y, or leave these out."
            )
    target = found["target"]
    if "source" not in found and not target.labelled().any():
        raise DataError(
            f"data.target_file={target.file} has no labels. {FORM} Rows without labels can be a "
            "target beside a labelled source: data.source_file."
        )
    kinds = {d: a.numbers for d, a in found.items() if d == "source" or a.labelled().any()}
    if len({*kinds.values()}) > 1:
        said = ", ".join(
            f"{'numbers' if n else 'classes'} in data.{d}_file" for d, n in kinds.items()
        )
        raise DataError(
            f"y is of two kinds: {said}. Floats are numbers to predict; store classes as "
            "integers or names in both: y.astype(int)."
        )
    if "source" in found and not target.numbers and not target.labelled().all():
        source = found["source"]
        if foreign := [name for name in target.classes if name not in source.classes]:
            raise DataError(
                f"data.target_file={target.file}: {human_list(foreign, 5)} is no class "
                f"of the source, which has {human_list(source.classes, 5)}."
            )


def later_alone(arrays: Arrays, known: Sequence[str]) -> list[str]:
    """Classes that only a file's test part has, and that nothing else teaches: where some training
    rows have no label they may be of any class of the source, ``known``."""
    if arrays.test is None or arrays.numbers:
        return []
    there = {str(name) for name in arrays.test[1]} - {NO_LABEL}
    taught = {str(name) for name in arrays.y} if arrays.y is not None else set()
    if not arrays.labelled().all():
        taught |= {*known}
    return sorted(there - taught)


def rows_of(target: Arrays) -> dict[str, list[str]]:
    """Names of the target's rows, where some have no label: ``x[3]``, ``x_test[0]``."""
    if target.labelled().all():
        return {}
    rows = [f"x[{i}]" for i in range(len(target.x))]
    tests = [f"x_test[{i}]" for i in range(len(target.test[0]))] if target.test else []
    return {"target": rows + tests}


def said(domain: str, name: str, splits: Mapping[str, Split]) -> str:
    """A domain in the protocol: its vectors to train and to test on."""
    train, test = splits[f"{domain}_train"], splits.get(f"{domain}_test")
    counts = [f"{len(split):,}" for split in (train, test) if split is not None]
    text = f"{domain} {name}: {' / '.join(counts)} vectors"
    if domain == "target" and test is None:
        return f"{text} without labels, and none to test on"
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
            of = np.full(len(x), np.nan, dtype=np.float32) if y is None else y
            labels = torch.from_numpy(of)
        else:
            names = [NO_LABEL] * len(x) if y is None else y
            labels = torch.tensor([positions[name] for name in names])
        return Split(
            torch.from_numpy(x)[:, :, None, None], labels, torch.arange(start, start + len(x))
        )

    tests = {"test": split(*arrays.test, start=len(arrays.x))} if arrays.test else {}
    return {"train": split(arrays.x, arrays.y), **tests}


def scaled(parts: Mapping[str, Parts]) -> tuple[dict[str, Parts], dict[str, list[float]]]:
    """Each feature to mean 0 and deviation 1 by the training part of the first domain.

    In double precision: a Unix time in seconds has no digits left in single. A feature that is
    the same everywhere there is only moved.
    """
    reference = next(iter(parts.values()))["train"].x
    mean, deviation = reference.mean(0), reference.std(0, correction=0)
    constant = reference.amax(0) == reference.amin(0)
    deviation = torch.where(constant | (deviation == 0), 1.0, deviation)
    scale = {"mean": mean.flatten().tolist(), "deviation": deviation.flatten().tolist()}
    return {
        d: {p: replace(s, x=(s.x - mean) / deviation) for p, s in named.items()}
        for d, named in parts.items()
    }, scale


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


def needed(parts: Parts, part: str) -> None:
    """Refuse a part without rows.

    Raises:
        DataError: it has none.
    """
    if part not in parts:
        raise DataError(
            "no row is left for test: raise data.test_fraction, or add rows."
            if part == "test"
            else "no row is left for training."
        )
