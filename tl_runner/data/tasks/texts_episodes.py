"""Your own texts as few-shot tasks: a table with a column of classes.

The classes are drawn into parts for training, validation and tests, unless a column says which
part a text is of; then the parts hold different classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from tl_runner import randomness
from tl_runner.data.fewshot_task import PARTS, drawn_parts, fewshot, large_enough, own_parts
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.data.text_files import TextTable, read
from tl_runner.errors import DataError, human_list, nearest


def load(
    *,
    target_file: str,
    text: str,
    label: str,
    part: str | None,
    ways: int,
    shots: int,
    queries: int,
    training: Mapping[str, int | None],
    tasks: Mapping[str, int],
    classes: Mapping[str, int],
    small_classes: str,
    seed: int,
) -> Task:
    """Task of few-shot episodes over the classes of a table's texts.

    ``seed`` draws which classes are for training, validation and tests, where no column says so.

    Args:
        target_file: CSV, TSV, JSON lines or Parquet.
        text, label, part: names of columns; ``part`` holds ``train``, ``val`` and ``test``.
        ways, shots, queries, training, tasks: as :func:`tl_runner.data.fewshot_task.fewshot`'s.
        classes: how many ``val`` and ``test`` have, the rest is for training; not read with
            ``part``.
        small_classes: ``fail`` or ``skip`` where a class has too few texts for a task.

    Raises:
        DataError: the file is missing or damaged, or has no such column; a part has too few
            classes; a class is in two parts or has too few texts.
    """
    file = Path(target_file).expanduser()
    where = f"data.target_file={file}"
    table, _ = read(file, "data.target_file", text, [label, *([part] if part else [])])
    labels = table.cells[label]
    usual = shots + queries
    trained = (training.get("shots") or shots) + (training.get("queries") or queries)
    found: dict[str, tuple[Split, tuple[str, ...]]] = {}
    small = 0
    for name, rows in _rows(table, label, part, where).items():
        names = tuple(sorted({labels[i] for i in rows}))
        place = {one: n for n, one in enumerate(names)}
        x = torch.tensor(rows)
        split = Split(x[:, None, None, None], torch.tensor([place[labels[i]] for i in rows]), x)
        least = {"train": trained, "": max(usual, trained)}.get(name, usual)
        found[name] = large_enough(where, split, names, least, small_classes, "texts")
        small += len(names) - len(found[name][1])
    parts = (
        own_parts(where, found)
        if part
        else drawn_parts(where, *found[""], classes, randomness.generator(seed, "classes"))
    )
    numbers = " / ".join(str(len(own.y.unique())) for own in parts.values() if own.y is not None)
    notes = []
    if unlabelled := labels.count(""):
        notes.append(f"{where}: {unlabelled:,} texts without a {label} are left out.")
    if table.left_out:
        notes.append(f"{where}: {table.left_out:,} rows without a text are left out.")
    task = fewshot(
        file.stem,
        parts,
        ways=ways,
        shots=shots,
        queries=queries,
        training=training,
        tasks=tasks,
        rotations={},
        protocol=f"{file.stem}: {numbers} classes ({', '.join(parts)}) of texts"
        + (f", {small:,} classes of too few texts left out" if small else ""),
        checksums={str(file): table.digest},
    )
    return replace(task, texts=table.texts, notes=tuple(notes))


def _rows(table: TextTable, label: str, part: str | None, where: str) -> dict[str, list[int]]:
    """The labelled rows of each part; of all under an empty name where no column says."""
    labelled = [i for i, cell in enumerate(table.cells[label]) if cell]
    if not labelled:
        raise DataError(f"{where} has no labels in its column {label}.")
    if not part:
        return {"": labelled}
    cells = table.cells[part]
    if strange := [i for i in labelled if cells[i] not in PARTS]:
        row = strange[0]
        raise DataError(
            f"{where}, row {table.lines[row]}: the column {part} says {cells[row]!r}, and parts "
            f"are {human_list(PARTS)}.{nearest(cells[row], PARTS)}"
        )
    rows = {name: [i for i in labelled if cells[i] == name] for name in PARTS}
    if missing := [name for name in ("train", "test") if not rows[name]]:
        raise DataError(f"{where} has no labelled text whose {part} is {missing[0]}.")
    return {name: own for name, own in rows.items() if own}
