"""Runs for notebooks: what the commands show, as pandas frames and Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tl_runner.errors import UserError
from tl_runner.report.latest import named
from tl_runner.report.runs import Run, collect

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

    from tl_runner.predict.run import Trained


def frames() -> Any:
    """The package pandas.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError("this needs pandas: pip install 'tl-run[notebook]'.") from error
    return pandas


def runs(*folders: str | Path) -> DataFrame:
    """Every run below some folders, one row each, those of a repeated seed among them.

    Columns: ``method``, ``data``, ``backbone``, ``device``, ``seed``, ``status``, ``error``,
    ``score``, ``metric``, ``folder``; each further key that a command set; and every metric of
    ``result.json`` by split, such as ``target_test.accuracy``, a fraction. What a run has not is
    NaN.

    Args:
        folders: none: ``outputs``.

    Raises:
        UserError: a folder is not there, or holds no run; pandas is not installed.
    """
    found = collect([named(folder) for folder in folders or ("outputs",)])
    return frames().DataFrame([_row(run) for run in found])


def _row(run: Run) -> dict[str, Any]:
    about = {**run.choices, "seed": run.seed, "status": run.status, "error": run.error}
    result = {
        "score": run.value("score"),
        "metric": run.result.get("metric"),
        "folder": str(run.folder),
    }
    others = {key: value for key, value in run.overrides.items() if key not in about}
    metrics = {name: run.value(name) for name in run.metrics() if name not in result}
    return about | result | others | metrics


class LoadedRun:
    """A finished run: its record, and its network with all that stands before it.

    Args:
        folder: of the run.

    Attributes:
        folder: of the run.
        result: the content of ``result.json``.
        config: resolved.

    Raises:
        UserError: it is no folder of a run.
    """

    def __init__(self, folder: str | Path):
        self.folder = named(folder, done=True)
        (self._run, *others) = collect([self.folder])
        if others:
            raise UserError(f"{self.folder} holds {len(others) + 1} runs: name one, or see runs().")
        self.result: dict[str, Any] = dict(self._run.result)
        self.config: dict[str, Any] = self._run.config

    def __repr__(self) -> str:
        choices, score = self._run.choices, self.result.get("score")
        return f"<{choices['method']} on {choices['data']}, {self._run.status}, score {score}>"

    @property
    def history(self) -> DataFrame:
        """``metrics.jsonl``: a row for each evaluation of an epoch, a column for each value."""
        return frames().DataFrame(self._run.epochs)

    def predictions(self, split: str = "target_test") -> DataFrame:
        """What the run said of a split's samples: ``id``, the position in the split's files;
        ``label`` where it is known, ``prediction``, and a column ``p(class)`` for each class; of
        numbers ``value``.

        Raises:
            UserError: the run kept no such split.
        """
        pandas = frames()
        with np.load(self.folder / "predictions.npz", allow_pickle=False) as content:
            held = {
                name.partition("/")[2]: content[name]
                for name in content.files
                if name.partition("/")[0] == split
            }
            splits = sorted({name.partition("/")[0] for name in content.files})
        if not held:
            raise UserError(f"{self.folder} has no predictions of {split}, but of {splits}.")
        table: dict[str, Any] = {"id": held["ids"]} if "ids" in held else {}
        names = np.array(self.classes(split))
        labels = held.get("labels")
        if "probabilities" not in held:
            given = {} if labels is None else {"label": labels}
            return pandas.DataFrame(table | given | {"value": held["values"].reshape(-1)})
        p = held["probabilities"]
        if labels is not None:
            table["label"] = names[labels]
        table["prediction"] = names[p.argmax(1)]
        return pandas.DataFrame(table | {f"p({n})": p[:, i] for i, n in enumerate(names)})

    def classes(self, split: str = "target_test") -> list[str]:
        """Names of the classes that a split's samples are told apart by."""
        outline = self.result.get("outline") or {}
        own = outline.get("source_classes") if split.startswith("source") else None
        return [str(name) for name in own or self.result.get("classes") or ()]

    @cached_property
    def trained(self) -> Trained:
        """The run taken up to predict, as ``tl-predict`` does.

        Raises:
            CheckpointError: it is not done, or a file of it is damaged.
        """
        from tl_runner.predict.run import Trained

        return Trained(self.folder)

    @property
    def model(self) -> nn.Module:
        """The method with its networks and the weights that the selection rule chose, in eval
        mode."""
        return self.trained.method

    def predict(self, paths: str | Path | Sequence[str | Path], workers: int = 0) -> DataFrame:
        """Predictions for files, or folders of them, as ``tl-predict`` makes them: ``file``,
        ``prediction`` and a column ``p(class)`` for each class; of numbers ``value``.

        Args:
            paths: pictures, ``.npz`` of vectors, tables of texts, or folders.
            workers: processes that decode pictures.

        Raises:
            UserError: a path is not there, or nothing in it can be read.
        """
        pandas, classes = frames(), self.trained.classes
        given = [paths] if isinstance(paths, str | Path) else paths
        found = self.trained.predict(self.trained.named([Path(p) for p in given]), workers)
        table: dict[str, Any] = {"file": [str(file) for file in found.files]}
        if not classes:
            return pandas.DataFrame(table | {"value": found.values[:, 0]})
        table["prediction"] = np.array(classes)[found.values.argmax(1)]
        return pandas.DataFrame(
            table | {f"p({n})": found.values[:, i] for i, n in enumerate(classes)}
        )


def load(folder: str | Path) -> LoadedRun:
    """A finished run by its folder, or the one that ended last: ``load("last")``."""
    return LoadedRun(folder)
