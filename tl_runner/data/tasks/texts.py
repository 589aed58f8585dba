"""Texts of two domains, or of one, from tables with named columns.

A file is CSV, TSV, JSON lines or Parquet. Source and target are a file each, or one file whose
column ``domain`` says which text is whose. A text's label is a class, or a number to predict; a
target's texts may have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tl_runner.data.splits import Split, budget, target_splits
from tl_runner.data.task import Task
from tl_runner.data.tasks.arrays import divided
from tl_runner.data.text_files import TextTable, read
from tl_runner.errors import DataError, human_list, nearest

NONE = -1  # of a text without a label, as a position among the classes
NAMED = 5
MANY_CLASSES = 50  # labels of more values may be meant as numbers


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns: of the text, of its class or its number, of its domain."""

    text: str
    label: str | None
    number: str | None
    domain: str | None

    @property
    def of_labels(self) -> str | None:
        """The column that is predicted."""
        return self.number or self.label


@dataclass(frozen=True)
class Part:
    """Texts of one part of a domain.

    Attributes:
        key: the setting that names the file.
        table: its rows.
        labels: one a row, an empty text where it has none; None: no column holds any.
    """

    key: str
    table: TextTable
    labels: list[str] | None

    @property
    def labelled(self) -> int:
        """How many texts have a label."""
        return sum(map(bool, self.labels or ()))


def load(
    *,
    target_file: str,
    source_file: str | None,
    target_test_file: str | None,
    source_test_file: str | None,
    text: str,
    label: str | None,
    number: str | None,
    domain: str | None,
    source: str | None,
    target: str | None,
    val_fraction: float,
    test_fraction: float,
    target_labels: int | str | None,
    transductive: bool | None,
    passes: float | None,
    seed: int,
) -> Task:
    """Task of a target's texts, and of a source's where there is one.

    ``seed`` draws the validation part; a test part that has no file of its own is drawn as well,
    the same for every seed.

    Args:
        target_file, source_file: the files; with ``domain`` and ``source`` one may hold both.
        target_test_file, source_test_file: files to test on, or None.
        text, label, number, domain: names of columns; ``number`` goes before ``label``.
        source, target: what the column ``domain`` says of the source's and of the target's texts.
        val_fraction, test_fraction: of each class; of numbers, of all texts.
        target_labels: how many of each class, or of numbers in all, of the target training may see,
            or ``all``; None: all that there are where only some texts have one, else 0.
        transductive: where the target has no file to test on, test on its training texts that have
            a label which training does not see; None: where training sees no labels at all.
        passes: as a :class:`Task` has them.

    Raises:
        DataError: a file is missing or damaged, or has no such column; labels are missing or are
            no numbers; classes do not go together.
    """
    columns = Columns(text, label, number, domain)
    found = {
        d: parts
        for d, parts in (
            (
                "source",
                _parts("source", source_file or target_file, source_test_file, columns, source),
            )
            if source_file or (domain and source)
            else ("source", {}),
            ("target", _parts("target", target_file, target_test_file, columns, target)),
        )
        if parts
    }
    _check(found, columns)
    numbers = number is not None
    classes = {} if numbers else {d: _classes(parts) for d, parts in found.items()}
    if not numbers and "source" in found and not _all_labelled(found["target"]["train"]):
        classes["target"] = classes["source"]
    every: list[str] = []
    whole: dict[str, dict[str, Split]] = {}
    for d, parts in found.items():
        start, whole[d] = len(every), {}
        for name, part in parts.items():
            whole[d][name] = _split(part, classes.get(d, ()), numbers, len(every), start)
            every += part.table.texts
    draws = {
        "val": torch.Generator().manual_seed(seed),
        "test": torch.Generator().manual_seed(0),
    }
    labels = budget(whole["target"]["train"], target_labels)
    transductive = labels == 0 if transductive is None else transductive
    fractions = {
        "source": {"test": test_fraction, "val": val_fraction},
        "target": {
            "test": 0.0 if transductive else test_fraction,
            "val": 0.0 if labels == 0 else val_fraction,
        },
    }
    drawn = {d: divided(parts, fractions[d], draws) for d, parts in whole.items()}
    splits = {f"source_{name}": split for name, split in drawn.get("source", {}).items()}
    splits |= target_splits(drawn["target"], labels, transductive, draws["val"])
    for name in ("source_train", "source_test") if "source" in found else ():
        if name not in splits:
            raise DataError(
                f"no text is left for {name}: raise data.test_fraction, or give more texts."
            )
    names = {d: found[d]["train"].table.file.stem for d in found}
    said = {"source": source or names.get("source"), "target": target or names["target"]}
    return Task(
        name="2".join(str(said[d]) for d in found),
        classes=classes.get("target", ()),
        splits=splits,
        protocol="; ".join(
            [
                *(_said(d, str(said[d]), splits) for d in found),
                "numbers are asked for"
                if numbers
                else f"{len(classes['target'])} classes: {human_list(classes['target'], NAMED)}",
            ]
        ),
        checksums={
            str(part.table.file): part.table.digest
            for parts in found.values()
            for part in parts.values()
        },
        source_classes=classes["source"]
        if classes.get("source", classes.get("target")) != classes.get("target")
        else None,
        texts=every,
        files=_rows(found["target"]),
        passes=passes,
        notes=tuple(_notes(found, classes)),
    )


# ---- reading


def _parts(
    domain: str, file: str, test_file: str | None, columns: Columns, only: str | None
) -> dict[str, Part]:
    """The training part of a domain, and its test part where that has a file."""
    files = {"train": (f"data.{domain}_file", file)}
    if test_file:
        files["test"] = (f"data.{domain}_test_file", test_file)
    return {
        name: _part(Path(path).expanduser(), key, columns, domain, only)
        for name, (key, path) in files.items()
    }


def _part(file: Path, key: str, columns: Columns, domain: str, only: str | None) -> Part:
    wanted = [columns.domain] if columns.domain and only is not None else []
    optional = [columns.of_labels] if columns.of_labels else []
    table, has_labels = read(file, key, columns.text, wanted, optional)
    labels = table.cells[optional[0]] if optional and has_labels else None
    if only is not None and columns.domain:
        cells = table.cells[columns.domain]
        rows = [i for i, cell in enumerate(cells) if cell == only]
        if not rows:
            known = sorted({*cells})
            raise DataError(
                f"data.{domain}={only}: {file} has no text of that {columns.domain}."
                f"{nearest(only, known)} It has {human_list(known, 2 * NAMED)}."
            )
        table = table.take(rows)
        labels = labels and [labels[i] for i in rows]
    return Part(key, table, labels)


def _check(found: Mapping[str, Mapping[str, Part]], columns: Columns) -> None:
    """Refuse parts that do not go together, or whose labels are missing where they are needed."""
    wanted = columns.of_labels or "label"
    for domain, parts in found.items():
        for name, part in parts.items():
            where, n = f"{part.key}={part.table.file}", len(part.table)
            needed = domain == "source" or name == "test" or "source" not in found
            if needed and not part.labelled:
                raise DataError(
                    f"{where} has no labels in a column {wanted}: name it with data.label, or "
                    "data.number for numbers to predict. Texts without labels can be a target "
                    "beside a labelled source: data.source_file."
                )
            if (domain == "source" or name == "test") and part.labelled < n:
                line = part.table.lines[(part.labels or []).index("")]
                raise DataError(
                    f"{where}: {n - part.labelled:,} of {n:,} texts have no {wanted}, the first "
                    f"in row {line}. Leave them out there."
                )
    if columns.number:
        return
    classes = {d: _classes(parts) for d, parts in found.items()}
    for parts in found.values():
        taught = {*(parts["train"].labels or ()), *classes.get("source", ())}
        if "test" in parts and (later := {*(parts["test"].labels or ())} - taught):
            raise DataError(
                f"{parts['test'].key}: {human_list(sorted(later), NAMED)} is a class that no text "
                "to train on has."
            )
    first = next(iter(found))
    if len(classes[first]) < 2:
        raise DataError(
            f"{found[first]['train'].key} has one class, {classes[first][0]}: there is nothing to "
            "tell apart."
        )
    target = found["target"]["train"]
    if "source" in found and not _all_labelled(target):
        foreign = [name for name in classes["target"] if name not in classes["source"]]
        if foreign:
            raise DataError(
                f"{target.key}={target.table.file}: {human_list(foreign, NAMED)} is no class of "
                f"the source, which has {human_list(classes['source'], NAMED)}."
            )


def _all_labelled(part: Part) -> bool:
    return part.labelled == len(part.table)


def _classes(parts: Mapping[str, Part]) -> tuple[str, ...]:
    """Names of the classes, whole numbers by size and before other texts."""
    names = {name for part in parts.values() for name in part.labels or ()} - {""}
    return tuple(
        sorted(
            names,
            key=lambda name: (
                (0, int(name), name) if re.fullmatch("-?[0-9]{1,18}", name) else (1, 0, name)
            ),
        )
    )


def _split(part: Part, classes: Sequence[str], numbers: bool, begin: int, start: int) -> Split:
    """A part's positions among all texts, with labels: none is -1 or NaN.

    Args:
        begin: the position of its first text; ``start``: of its domain's.
    """
    n = len(part.table)
    x = torch.arange(begin, begin + n)
    labels = part.labels or [""] * n
    if numbers:
        y = torch.tensor([_number(part, i, cell) for i, cell in enumerate(labels)])
    else:
        place = {name: i for i, name in enumerate(classes)} | {"": NONE}
        y = torch.tensor([place[cell] for cell in labels])
    return Split(x[:, None, None, None], y, x - start)


def _number(part: Part, row: int, cell: str) -> float:
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise DataError(
            f"{part.key}={part.table.file}, row {part.table.lines[row]}: {cell!r} is no number. "
            "Classes stand in the column that data.label names."
        )
    return value


# ---- words


def _rows(parts: Mapping[str, Part]) -> dict[str, list[str]]:
    """Names of the target's texts, ``films.csv:12``, where some have no label."""
    if all(_all_labelled(part) for part in parts.values()):
        return {}
    return {
        "target": [
            f"{part.table.file.name}:{line}" for part in parts.values() for line in part.table.lines
        ]
    }


def _said(domain: str, name: str, splits: Mapping[str, Split]) -> str:
    """A domain in the protocol: its texts to train and to test on."""
    train, test = splits[f"{domain}_train"], splits.get(f"{domain}_test")
    counts = " / ".join(f"{len(split):,}" for split in (train, test) if split is not None)
    said = f"{domain} {name}: {counts} texts"
    if test is None:
        seen = splits.get(f"{domain}_labelled")
        labels = f"{len(seen):,} with labels" if seen is not None else "without labels"
        return f"{said} {labels}, and none to test on"
    if domain == "target" and bool(torch.isin(train.ids, test.ids).any()):
        return f"{said}, tested on those that it adapts to, without their labels"
    return said


def _notes(
    found: Mapping[str, Mapping[str, Part]], classes: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Notes on texts that were left out, and on labels that may be meant otherwise."""
    for parts in found.values():
        for part in parts.values():
            if part.table.left_out:
                yield (
                    f"{part.key}={part.table.file}: {part.table.left_out:,} rows without a text "
                    "are left out."
                )
    for domain, names in classes.items():
        if len(names) > MANY_CLASSES and all(_is_number(name) for name in names):
            yield (
                f"data.{domain}_file: the labels are {len(names):,} different numbers, which are "
                "taken as classes. If they are to be predicted, name the column with data.number."
            )


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False
