"""Predictions against the labels that lie beside the files: scores, confusions, what was wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tl_runner.data.folders import is_folder
from tl_runner.data.npz import read_npz
from tl_runner.data.text_files import read
from tl_runner.data.vectors import UNREADABLE, checked
from tl_runner.errors import DataError, UserError, human_list, nearest
from tl_runner.files import csv_text, inert_path
from tl_runner.metrics import evaluation_report
from tl_runner.metrics.log_odds import log_odds
from tl_runner.predict.inputs import LINES, Pictures, Vectors

if TYPE_CHECKING:
    from tl_runner.predict.inputs import Inputs
    from tl_runner.predict.run import Found

CELLS = 20  # classes up to which the confusion matrix is printed
NAMED = 5
TABLE = "errors.csv"


@dataclass(frozen=True)
class Evaluation:
    """What became of the samples whose label is known.

    Attributes:
        rows: positions of these among the predictions.
        labels: their classes, int64 (n,), or numbers, float64 (n,).
        report: as :mod:`tl_runner.metrics.evaluation_report` has it.
        notes: what was left out.
    """

    rows: np.ndarray
    labels: np.ndarray
    report: Mapping[str, Any]
    notes: tuple[str, ...]


def labels_of(
    inputs: Inputs,
    files: Sequence[Path],
    paths: Sequence[Path],
    data: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[Path, str]:
    """The label of each sample that has one, by the sample's name.

    Of a picture it is the folder that it lies in, below the named one; of vectors ``y``; of texts
    the column that the run's own labels were in.

    Args:
        files: that the paths name.
        data: the section of the run's config.
        classes: of the run.
    """
    if isinstance(inputs, Pictures):
        return folder_classes(files, paths, classes)
    found: dict[Path, str] = {}
    for file in files:
        try:
            rows = _of_vectors(file) if isinstance(inputs, Vectors) else _of_texts(file, data)
        except (DataError, *UNREADABLE):
            continue  # that it cannot be read is said with the predictions
        found |= rows
    return found


def _of_vectors(file: Path) -> dict[Path, str]:
    _, held = read_npz(file, ["x", "y"])
    x, y = held["x"], held["y"]
    if x is None or y is None:
        return {}
    labels = checked(x, y, str(file), "")[1]
    assert labels is not None
    cells = ["" if label == "" or label != label else str(label) for label in labels.tolist()]
    return {file.with_name(f"{file.name}[{i}]"): cell for i, cell in enumerate(cells)}


def _of_texts(file: Path, data: Mapping[str, Any]) -> dict[Path, str]:
    column = data.get("number") or data.get("label")
    if not column or file.suffix.lower() == LINES:
        return {}
    table, has = read(file, "the file", str(data.get("text", "text")), optional=[str(column)])
    if not has:
        return {}
    names = [file.with_name(f"{file.name}:{line}") for line in table.lines]
    return dict(zip(names, table.cells[str(column)], strict=True))


def folder_classes(
    files: Sequence[Path], paths: Sequence[Path], classes: Sequence[str]
) -> dict[Path, str]:
    """The class of each picture by the folders that it lies in.

    That is the first one below a named path that has a class's name, else the named path itself if
    it has; else the folder that it lies in, a class that the run does not know.
    """
    roots = sorted((p for p in paths if is_folder(p)), key=lambda p: -len(p.parts))
    found = {}
    for file in files:
        root = next((r for r in roots if r in file.parents), file.parent)
        below = [normalize("NFC", part) for part in file.relative_to(root).parts[:-1]]
        own = normalize("NFC", root.resolve().name)
        known = [name for name in [*below, own] if name in classes]
        found[file] = (known or [*below[-1:], ""])[0]
    return found


def evaluate(
    found: Found, labels: Mapping[Path, str], classes: Sequence[str], kind: str
) -> Evaluation:
    """Compare predictions with labels.

    Args:
        classes: of the run; none: it predicts numbers.
        kind: what the samples are, in the plural.

    Raises:
        UserError: no sample has a label that the run could give.
    """
    given = [labels.get(file, "") for file in found.files]
    place = {name: i for i, name in enumerate(classes)}
    notes = []
    if none := given.count(""):
        notes.append(f"{none:,} {kind} without a label are left out")
    if classes:
        strange = [label for label in given if label and label not in place]
        if strange:
            names = sorted({*strange})
            notes.append(
                f"{len(strange):,} {kind} of classes that the run does not know are left out: "
                f"{human_list(names, NAMED)}.{nearest(names[0], classes)}"
            )
        rows = [i for i, label in enumerate(given) if label in place]
        known = np.array([place[given[i]] for i in rows], dtype=np.int64)
    else:
        numbers = [_number(label) for label in given]
        rows = [i for i, value in enumerate(numbers) if value is not None]
        known = np.array([numbers[i] for i in rows], dtype=np.float64)
    if not rows:
        wanted = (
            "Pictures lie in a folder a class, vectors have y beside x, and texts a column of "
            "labels as the run's own had."
        )
        some = f" ({'; '.join(notes)})" if notes else ""
        of = f" The run's classes are {human_list(classes, NAMED)}." if classes else ""
        raise UserError(f"--evaluate: no label to compare with{some}. {wanted}{of}")
    values = found.values[rows]
    ranking = None if found.logits is None else log_odds(found.logits[rows])
    report = (
        evaluation_report.classification(values, known, ranking=ranking, names=classes)
        if classes
        else evaluation_report.regression(values[:, 0], known)
    )
    return Evaluation(np.array(rows), known, report, tuple(notes))


def learned_from(paths: Sequence[Path], data: Mapping[str, Any]) -> list[str]:
    """The keys of the run's data that name what is evaluated, or a folder around it."""
    keys = [f"{domain}_{kind}" for domain in ("target", "source") for kind in ("dir", "file")]
    own = {key: Path(str(data[key])).expanduser().resolve() for key in keys if data.get(key)}
    given = [path.resolve() for path in paths]
    return [
        key
        for key, place in own.items()
        if any(place == path or place in path.parents for path in given)
    ]


def _number(label: str) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def as_json(evaluation: Evaluation, classes: Sequence[str]) -> str:
    """The report for other programs."""
    content = {
        "samples": len(evaluation.rows),
        "classes": list(classes),
        **{
            key: value
            for key, value in evaluation.report.items()
            if key in ("metrics", "intervals", "per_class", "confusion", "notes")
        },
        "left_out": list(evaluation.notes),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def show(evaluation: Evaluation, classes: Sequence[str], kind: str) -> None:
    """Print the report to the terminal: the score, a line for each class, the confusion matrix."""
    console, report = Console(), evaluation.report
    metrics, intervals = report["metrics"], report["intervals"]
    n = f"{len(evaluation.rows):,} {kind}"
    if not classes:
        parts = [f"{name} {metrics[name]:.5g}" for name in ("rmse", "mae", "r2") if name in metrics]
        console.print(Text(f"{', '.join(parts)}, on {n}"))
        return
    present = int((np.array(report["confusion"]).sum(1) > 0).sum())
    recall = _with_interval(metrics, intervals, "balanced_accuracy")
    console.print(
        Text(
            f"accuracy {_with_interval(metrics, intervals, 'accuracy')} on {n}\n"
            f"mean recall of the {present} classes there are {recall}"
        )
    )
    counts = np.array(report["confusion"])
    console.print(_by_class(report["per_class"], counts, classes, kind))
    if len(classes) <= CELLS:
        console.print(_matrix(counts, classes))


def _with_interval(
    metrics: Mapping[str, Any], intervals: Mapping[str, Sequence[float]], name: str
) -> str:
    value, ends = metrics[name], intervals.get(name)
    said = f"{100 * value:.1f} %"
    if not ends or ends[0] == ends[1]:  # of one sample, say: nothing can be drawn otherwise
        return said
    return f"{said} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _by_class(
    per_class: Mapping[str, Sequence[float]],
    counts: np.ndarray,
    classes: Sequence[str],
    kind: str,
) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for name in ("precision, %", "recall, %", "F1, %", kind):
        table.add_column(name, justify="right")
    table.add_column("most often taken for")
    for i, name in enumerate(classes):
        wrong = counts[i].copy()
        wrong[i] = 0
        worst = f"{classes[wrong.argmax()]} ({wrong.max():,})" if wrong.any() else ""
        table.add_row(
            Text(name),
            *(
                f"{100 * per_class[key][i]:.1f}" if counts[i].any() or key == "precision" else "–"
                for key in ("precision", "recall", "f1")
            ),
            f"{counts[i].sum():,}",
            Text(worst),
        )
    return table


def _matrix(counts: np.ndarray, classes: Sequence[str]) -> Table:
    """Rows are true classes, columns predicted ones, by number where their names are long."""
    short = max(map(len, classes)) <= 6
    table = Table(
        box=None, pad_edge=False, title="true, down; predicted, across", title_justify="left"
    )
    table.add_column("", overflow="fold")
    for i, name in enumerate(classes):
        table.add_column(Text(name if short else str(i + 1)), justify="right")
    for i, name in enumerate(classes):
        cells = [f"{n:,}" if n else "·" for n in counts[i]]
        table.add_row(Text(name if short else f"{i + 1} {name}"), *cells)
    return table


def write_errors(
    folder: Path, found: Found, evaluation: Evaluation, classes: Sequence[str], copy: bool
) -> int:
    """Write what was got wrong into a folder, and return how many samples that is.

    ``errors.csv`` lists them, the surest first. Pictures are copied into a folder for each cell of
    the confusion matrix, ``cat as dog``, their confidence in front of their names.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    values = found.values[evaluation.rows]
    predicted = values.argmax(1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    wrong = wrong[np.argsort(-values[wrong].max(1), kind="stable")]
    lines = [["file", "true", "predicted", "probability"]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--errors {folder} is not empty: name a new folder.")
        for i in wrong.tolist():
            file = found.files[evaluation.rows[i]]
            true, guess = classes[evaluation.labels[i]], classes[predicted[i]]
            sure = float(values[i].max())
            lines.append([inert_path(str(file)), true, guess, f"{sure:.6f}"])
            if copy:
                cell = folder / f"{_inert(true)} as {_inert(guess)}"
                cell.mkdir(exist_ok=True)
                shutil.copyfile(file, _free(cell / f"{100 * sure:04.1f} {file.name}"))
        (folder / TABLE).write_text(csv_text(lines), encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"--errors {folder} cannot be written: {error.strerror}.") from error
    return len(wrong)


def _inert(name: str) -> str:
    """A class's name as part of a folder's, which leads nowhere else."""
    return re.sub(r"[^\w .,+()-]|^\.+", "_", name)[:80]


def _free(file: Path) -> Path:
    """The file, or where there is one of that name with a number behind it."""
    number, free = 1, file
    while free.exists():
        number += 1
        free = file.with_name(f"{file.stem} {number}{file.suffix}")
    return free
