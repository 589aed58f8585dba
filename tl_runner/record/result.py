"""The end of a run: its figures and the content of ``result.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tl_runner.data.task import Task
from tl_runner.metrics import selection_rules as rules
from tl_runner.metrics.evaluation_report import Report
from tl_runner.metrics.log_odds import log_odds
from tl_runner.record import (
    curves,
    embeddings,
    figures,
    inner_steps,
    similarity,
    target_predictions,
)
from tl_runner.record.costs import cost
from tl_runner.record.run_folder import RunFolder, named_choices

if TYPE_CHECKING:
    from tl_runner.training.device import Device
    from tl_runner.training.trainer import Trainer

METRIC = "accuracy"
UNLABELLED = "im"  # the score of a run whose target has no labels
PARTS = ("metrics", "intervals", "per_class", "confusion", "notes")  # of a split's report


def scored_split(reports: Mapping[str, Report]) -> str:
    """Split that the score comes from.

    The target's test images, or those that it adapts to where it has no labels; the source's where
    there is no target; or the test tasks.
    """
    return next(
        name
        for name in ("target_test", "target_train", "source_test", "source_val", "meta_test")
        if name in reports
    )


def score_of(reports: Mapping[str, Report]) -> tuple[str, float | None]:
    """(metric, value) that stand for a run: accuracy, an error of numbers, or where the target has
    no labels a score that needs none, of which numbers have none: then the value is None."""
    metrics = reports[scored_split(reports)]["metrics"]
    if not metrics:
        others = {name: report for name, report in reports.items() if report["metrics"]}
        return score_of(others)[0], None
    name = next((name for name in (METRIC, UNLABELLED) if name in metrics), None)
    name = name or next(iter(metrics))
    return name, metrics[name]


def write_figures(
    folder: RunFolder,
    predictions: Mapping[str, np.ndarray],
    reports: Mapping[str, Report],
    task: Task,
    every: bool = False,
) -> None:
    """Draw the run's figures into its folder: curves, and the confusion matrix of the split that is
    scored.

    Args:
        every: also ROC and reliability of that split, and both domains' features by t-SNE, which
            takes longer than all the others together.
    """
    folder.figures.mkdir(exist_ok=True)
    curves.curves(folder.metrics(), folder.figures / "curves.png", task.name)
    if "curve" in reports[scored_split(reports)]:
        inner_steps.figure(reports, folder.figures / "inner_steps.png", task.name)
        return
    name = scored_split({n: r for n, r in reports.items() if f"{n}/labels" in predictions})
    title, labels, report = (
        f"{task.name}, {name.replace('_', ' ')}",
        predictions[f"{name}/labels"],
        reports[name],
    )
    if not task.classes:
        figures.numbers(
            predictions[f"{name}/values"], labels, folder.figures / f"numbers_{name}.png", title
        )
        return
    p = predictions[f"{name}/probabilities"]
    figures.confusion(
        np.array(report["confusion"]), task.classes, folder.figures / f"confusion_{name}.png", title
    )
    if not every:
        return
    figures.roc(
        log_odds(predictions[f"{name}/logits"]),
        labels,
        report["per_class"]["auc"],
        task.classes,
        folder.figures / f"roc_{name}.png",
        title,
    )
    figures.reliability(p, labels, folder.figures / f"reliability_{name}.png", title)
    figures.embedding(
        *by_name(embeddings.load(folder), task), folder.figures / "embedding.png", task.name
    )


def by_name(
    arrays: Mapping[str, np.ndarray], task: Task
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Embeddings whose labels count in the classes of both domains, and these classes."""
    names = [
        *task.classes,
        *(name for name in task.source_classes or () if name not in task.classes),
    ]
    found = dict(arrays)
    if task.source_classes and "source/labels" in found:
        found["source/labels"] = np.array([names.index(name) for name in task.source_classes])[
            found["source/labels"]
        ]
    return found, names


def result(
    trainer: Trainer,
    task: Task,
    choices: Mapping[str, str],
    reports: Mapping[str, Report],
    predictions: Mapping[str, np.ndarray],
    device: Device,
    data_s: float,
) -> dict[str, Any]:
    """Content of ``result.json`` of a finished run.

    Args:
        data_s: seconds that reading the data took.
    """
    at = trainer.at
    taken = rules.choices(trainer.folder.metrics(), trainer.stopped_at())
    costs = {
        name: cost(*of, trainer.method.setting.shape, device)
        for name, of in trainer.method.compared().items()
    }
    kept = embeddings.load(trainer.folder)
    measured = {
        "a_distance": embeddings.a_distances(kept),
        "distances": similarity.distances(kept),
        "transferability": similarity.transfer(kept),
    }
    metric, score = score_of(reports)
    return {
        "status": "done",
        "error": None,
        "score": score,
        "metric": metric,
        "selection": trainer.selection,
        "selected_epoch": at.best_epoch,
        "uses_target_labels": trainer.uses_target_labels,
        "protocol": task.protocol,
        "seed": trainer.seed,
        "choices": named_choices(choices),
        "classes": list(task.classes),
        "outline": asdict(task.outline()),
        **{
            part: {name: report[part] for name, report in reports.items() if part in report}
            for part in PARTS
        },
        **(
            {"curve": curves}
            if (
                curves := {
                    name: report["curve"] for name, report in reports.items() if "curve" in report
                }
            )
            else {}
        ),
        **(
            {"forgetting": lost}
            if not costs and (lost := forgetting(at.phases, reports)) is not None
            else {}
        ),
        **(
            {"findings": found}
            if (found := trainer.method.findings(trainer.folder.metrics()))
            else {}
        ),
        **({"costs": costs} if costs else {}),
        **(
            {"titles": dict(trainer.method.titles), "baseline": trainer.method.baseline}
            if trainer.method.titles
            else {}
        ),
        **({"rules": rules.as_json(taken)} if taken else {}),
        **{name: found for name, found in measured.items() if found},
        **unlabelled_part(task, predictions, trainer.method.estimated_by),
        "sizes": {
            name: len(found)
            for there in (trainer.splits, trainer.episodes)
            for name, found in there.items()
        },
        "phases": at.phases,
        "warnings": at.warnings,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": round(trainer.wall_s(), 3),
        "data_s": round(data_s, 3),
        "images_per_s": round(at.images / at.train_s, 1) if at.train_s else None,
        "peak_memory_mb": round(device.peak_memory_mb(), 1),
        "parameters": sum(p.numel() for p in trainer.method.parameters()),
    }


def unlabelled_part(
    task: Task, predictions: Mapping[str, np.ndarray], estimated_by: Sequence[str]
) -> dict[str, Any]:
    """``target_predictions`` of a run whose target has no labels; nothing of others."""
    if not target_predictions.without_labels(task):
        return {}
    source = task.splits.get("source_train")
    labels = None
    if source is not None and source.y is not None and task.source_classes is None:
        labels = source.y.cpu().numpy()
    found = target_predictions.shares(predictions, task.classes, labels)
    return {"target_predictions": found | {"estimated_by": [*estimated_by]}} if found else {}


def forgetting(phases: Sequence[Mapping[str, Any]], reports: Mapping[str, Report]) -> float | None:
    """Source test accuracy that ``pretrain`` reached and the end no longer has.

    None where one of them is not known.
    """
    before = next(
        (
            p["metrics"].get("source_test")
            for p in phases
            if p["name"] == "pretrain" and "metrics" in p
        ),
        None,
    )
    if before is None or "source_test" not in reports:
        return None
    return before[METRIC] - reports["source_test"]["metrics"][METRIC]
