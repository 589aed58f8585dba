"""The end of a run: predictions, figures, ``result.json`` and the closing table."""

from __future__ import annotations

import io
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tl_runner.data.task import Task
from tl_runner.metrics import selection_rules as rules
from tl_runner.metrics.evaluation_report import Report
from tl_runner.record import embeddings, figures, similarity
from tl_runner.record import inner_steps as episodes
from tl_runner.record.costs import cost, short
from tl_runner.record.run_folder import RunFolder, named_choices

if TYPE_CHECKING:
    from tl_runner.training.device import Device
    from tl_runner.training.trainer import Trainer

METRIC = "accuracy"
WIDTH = 100
COSTS = ("params", "FLOPs", "ms")  # of each network, where they are compared; milliseconds an image
PARTS = ("metrics", "intervals", "per_class", "confusion", "notes")  # of a split's report


def scored_split(reports: Mapping[str, Report]) -> str:
    """The split that the score comes from: the target's test images, or the source's where there is
    no target; or the test tasks."""
    return next(
        name
        for name in ("target_test", "source_test", "source_val", "meta_test")
        if name in reports
    )


def write_figures(
    folder: RunFolder,
    predictions: Mapping[str, np.ndarray],
    reports: Mapping[str, Report],
    task: Task,
) -> None:
    """Curves of the whole run, features of both domains; confusion matrix, ROC and reliability of
    the split that is scored."""
    folder.figures.mkdir(exist_ok=True)
    figures.curves(folder.metrics(), folder.figures / "curves.png", task.name)
    name = scored_split(reports)
    if "curve" in reports[name]:
        episodes.figure(reports, folder.figures / "inner_steps.png", task.name)
        return
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
    figures.roc(
        p,
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
    """(embeddings whose labels count in all classes of both domains, those classes)."""
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
    device: Device,
    data_s: float,
) -> dict[str, Any]:
    """The content of ``result.json`` of a finished run; ``data_s`` is what reading the data
    took."""
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
    scored = reports[scored_split(reports)]["metrics"]
    metric = METRIC if METRIC in scored else next(iter(scored))
    return {
        "status": "done",
        "error": None,
        "score": scored[metric],
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


def forgetting(phases: Sequence[Mapping[str, Any]], reports: Mapping[str, Report]) -> float | None:
    """The source test accuracy that ``pretrain`` reached and the end no longer has; None where one
    of them is not known."""
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


def closing_table(content: Mapping[str, Any], path: Path) -> str:
    """Accuracy on source and target after each phase, the last beside the first, time and
    folder."""
    if content.get("curve"):
        return _of_tasks(content, path)
    method = content["choices"]["method"]
    titles, costs = content.get("titles", {}), content.get("costs", {})
    rows = [(p["name"], p["metrics"]) for p in content["phases"] if p.get("metrics")]
    spent = [costs.get(name, {}) for name, _ in rows] + [[*costs.values()][-1] if costs else {}]
    labelled = (
        content["sizes"].get("target_labelled")
        if "target_labelled" in content["phases"][0]["reads"]
        else None
    )
    others = bool(content["outline"]["source_classes"])
    first = (
        f"source and {labelled:,} target labels"
        if labelled
        else "pretrain"
        if others
        else "source only"
    )
    rows = [
        (titles.get(name, first if name == "pretrain" else name), metrics) for name, metrics in rows
    ]
    rows.append((method, content["metrics"]))
    table = Table(box=box.SIMPLE_HEAD, title=None)
    metric = content["metric"] if not content["classes"] else METRIC
    known = [
        value
        for _, metrics in rows
        if (value := metrics.get("target_test", {}).get(metric)) is not None
    ]
    measured = [i for i, (_, m) in enumerate(rows) if "target_test" in m]
    over = next(
        (i for i in measured if rows[i][0] == titles.get(content.get("baseline"))),
        measured[0] if measured else 0,
    )
    base = rows[over][1]["target_test"].get(metric) if measured else None
    n = content["sizes"].get("target_test", 0)
    against = rows[over][0].split()[-1] if costs else rows[over][0]  # there is less room
    said = _percent if metric == METRIC else _number
    unit = f"{metric}, %" if metric == METRIC else metric
    for head in (
        unit,
        "source test",
        "target test",
        "± s.e.",
        f"over {against}" if len(known) > 1 else "gain",
    ):
        table.add_column(head, justify="left" if head == unit else "right", no_wrap=True)
    for head in COSTS if costs else ():
        table.add_column(head, justify="right")
    for i, (name, metrics) in enumerate(rows):
        source, target = (metrics.get(s, {}).get(metric) for s in ("source_test", "target_test"))
        error = _error(content, target, n) if i == len(rows) - 1 or metric == METRIC else None
        gain = (
            "" if i <= over or base is None or target is None else f"{100 * (target - base):+.1f}"
        )
        uses = (
            [
                short(spent[i].get("parameters")),
                short(spent[i].get("flops")),
                _milliseconds(spent[i]),
            ]
            if costs
            else []
        )
        table.add_row(name, said(source), said(target), said(error), gain, *uses)
    oracle = ""
    if content["uses_target_labels"]:
        stopped = any(
            p.get("early_stopping", {}).get("split") == "target_val" for p in content["phases"]
        )
        seen = [
            "target_labelled",
            *(["target_val"] if stopped or content["selection"] == "target_val" else []),
        ]
        labels = sum(content["sizes"].get(name, 0) for name in seen)
        seen_by = (
            f"   saw {labels:,} target labels" if labels else "   the teacher saw target labels"
        )
        oracle = "   oracle: target test labels" if content["selection"] == "oracle" else seen_by
    chosen = content["selection"] + (
        f" (epoch {content['selected_epoch']})" if content["selected_epoch"] else ""
    )
    if others and "forgetting" in content:
        chosen += f"   forgotten of the source {100 * content['forgetting']:.1f}"
    more = _wrapped(
        " tasks     " if content["outline"]["also"] else " targets   ",
        _by_target(content["metrics"]),
    ) + _wrapped(" rules     ", _by_epoch(content.get("rules", {})))
    return (
        f"\n{_lines(table)}\n\n{more} selection {chosen}{oracle}   time {content['wall_s']:.0f} s "
        "  "
        f"{content['images_per_s'] or 0:,.0f} images/s\n folder {path}"
    )


def _of_tasks(content: Mapping[str, Any], path: Path) -> str:
    """Scores of the test tasks against inner steps."""
    curve = content["curve"]["meta_test"]
    metric = episodes.metric_of(curve)
    table = Table(box=box.SIMPLE_HEAD, title=None)
    for head in ("inner steps", f"{metric}, %" if metric == METRIC else metric, "± 95 %"):
        table.add_column(head, justify="right")
    for row in episodes.rows(curve):
        table.add_row(*row)
    chosen = content["selection"] + (
        f" (epoch {content['selected_epoch']})" if content["selected_epoch"] else ""
    )
    plan, said = content["phases"][-1].get("plan"), content["protocol"].split("; ")
    said += content.get("notes", {}).get("meta_test", {}).values()
    return (
        f"\n{_lines(table)}\n\n{_wrapped(' tasks     ', said)} selection {chosen}   time "
        f"{content['wall_s']:.0f} s"
        f"{f'   batched as {plan}' if plan else ''}\n folder {path}"
    )


def _lines(table: Table) -> str:
    """What a table looks like, without blank lines."""
    with io.StringIO() as out:
        Console(file=out, width=WIDTH, color_system=None).print(table)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def _by_target(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The accuracy on each of several targets or tasks: ``95.1 usps``; of a number its error."""
    prefix = "target_test_"

    def said(found: Mapping[str, float]) -> str:
        return (
            _percent(found[METRIC])
            if METRIC in found
            else " ".join(f"{key} {value:.3f}" for key, value in [*found.items()][:1])
        )

    return [
        f"{said(found)} {name.removeprefix(prefix)}"
        for name, found in metrics.items()
        if name.startswith(prefix)
    ]


def _by_epoch(rules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the rules would have taken, those of one epoch together, the best first: ``96.2 im, snd
    (epoch 7)``."""
    epochs: dict[int, list[str]] = {}
    for name, choice in sorted(
        rules.items(), key=lambda item: (item[1]["regret"], item[1]["epoch"])
    ):
        epochs.setdefault(choice["epoch"], []).append("best" if name == "oracle" else name)
    accuracy = {choice["epoch"]: choice["accuracy"] for choice in rules.values()}
    parts = [
        f"{_percent(accuracy[epoch])} {', '.join(names)} (epoch {epoch})"
        for epoch, names in epochs.items()
    ]
    return parts if len(parts) > 1 else []


def _wrapped(head: str, parts: Sequence[str]) -> str:
    """``parts`` behind ``head``, over lines of at most ``WIDTH`` that break between parts; empty
    without any."""
    if not parts:
        return ""
    whole = "   ".join(part.replace(" ", "\xa0") for part in parts)
    lines = textwrap.fill(
        whole, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    )
    return lines.replace("\xa0", " ") + "\n"


def _milliseconds(spent: Mapping[str, float]) -> str:
    return f"{spent['latency_ms']:.2f}" if spent else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _error(content: Mapping[str, Any], value: float | None, n: int) -> float | None:
    """The standard error of an accuracy on n images, or of another score by its interval."""
    if value is None or not n:
        return None
    if content["classes"]:
        return (value * (1 - value) / n) ** 0.5
    low, high = content["intervals"].get("target_test", {}).get(content["metric"], (None, None))
    return None if low is None or high is None else (high - low) / 3.92
