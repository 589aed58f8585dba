"""The closing table: what a finished run prints, from the content of its ``result.json``."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tl_runner.record import inner_steps
from tl_runner.record.costs import short
from tl_runner.record.result import METRIC

WIDTH = 100
ESTIMATES = {"atc": "ATC", "doc": "DoC"}  # as the user reads them
TITLE = 24  # letters of a stage's name that a heading has room for
SHARES = 12  # classes whose share of the predictions is shown
COSTS = ("params", "FLOPs", "ms")  # of each network, where they are compared; milliseconds an image

Stage = tuple[str, Mapping[str, Any]]  # a line of the table: its title, and its metrics by split


def closing_table(content: Mapping[str, Any], path: Path) -> str:
    """Accuracy on source and target after each phase, selection, time and folder, as text.

    Args:
        content: of ``result.json``.
        path: of the run's folder.
    """
    if content.get("curve"):
        return _of_tasks(content, path)
    more = _wrapped(
        " tasks     " if content["outline"]["also"] else " targets   ",
        _by_target(content["metrics"]),
    ) + _wrapped(" rules     ", _by_epoch(content.get("rules", {})))
    more += _of_unlabelled(content)
    chosen = _selection(content)
    if content["outline"]["source_classes"] and "forgetting" in content:
        chosen += f"   forgotten of the source {100 * content['forgetting']:.1f}"
    return (
        f"\n{_lines(_of_stages(content))}\n\n{more} selection {chosen}{_labels_seen(content)}   "
        f"time {content['wall_s']:.0f} s   {content['images_per_s'] or 0:,.0f} images/s\n"
        f" folder {path}"
    )


def _of_stages(content: Mapping[str, Any]) -> Table:
    """Table of one line a stage, with gains over the baseline and costs where there are any."""
    stages, costs = _stages(content), content.get("costs", {})
    metric = content["metric"] if not content["classes"] else METRIC
    target = [metrics.get("target_test", {}).get(metric) for _, metrics in stages]
    baseline = _baseline(content, stages)
    title = (
        stages[baseline][0].split()[-1] if costs else stages[baseline][0]
    )  # less room with costs
    several = sum(value is not None for value in target) > 1
    as_text, unit = (_percent, f"{metric}, %") if metric == METRIC else (_number, metric)

    table = Table(box=box.SIMPLE_HEAD, title=None)
    table.add_column(unit, justify="left", overflow="fold")
    gain = f"over {title}" if several and len(title) <= TITLE else "gain"
    tested = any(value is not None for value in target) or "target_predictions" not in content
    for head in ("source test", *(["target test", "± s.e.", gain] if tested else [])):
        table.add_column(head, justify="right", no_wrap=True)
    for head in COSTS if costs else ():
        table.add_column(head, justify="right")

    last, n = len(stages) - 1, content["sizes"].get("target_test", 0)
    for i, (name, metrics) in enumerate(stages):
        source = metrics.get("source_test", {}).get(metric)
        error = _error(content, target[i], n) if i == last or metric == METRIC else None
        gain = _gain(target[i], target[baseline]) if i > baseline else ""
        uses = _costs(content, i, len(stages)) if costs else []
        scores = [as_text(target[i]), as_text(error), gain] if tested else []
        table.add_row(name, as_text(source), *scores, *uses)
    return table


def _stages(content: Mapping[str, Any]) -> list[Stage]:
    """Phases that were evaluated, and at last the method."""
    titles = content.get("titles", {})
    first = _first_title(content)
    phases = [(p["name"], p["metrics"]) for p in content["phases"] if p.get("metrics")]
    stages = [
        (titles.get(name, first if name == "pretrain" else name), metrics)
        for name, metrics in phases
    ]
    return [*stages, (content["choices"]["method"], content["metrics"])]


def _first_title(content: Mapping[str, Any]) -> str:
    """Title of a pretraining phase, by what it learned from."""
    labelled = content["sizes"].get("target_labelled")
    if labelled and "target_labelled" in content["phases"][0]["reads"]:
        return f"source and {labelled:,} target labels"
    return "pretrain" if content["outline"]["source_classes"] else "source only"


def _baseline(content: Mapping[str, Any], stages: Sequence[Stage]) -> int:
    """Position of the stage that gains are over: the method's own choice, else the first tested."""
    tested = [i for i, (_, metrics) in enumerate(stages) if "target_test" in metrics]
    named = content.get("titles", {}).get(content.get("baseline"))
    return next((i for i in tested if stages[i][0] == named), tested[0] if tested else 0)


def _gain(value: float | None, base: float | None) -> str:
    return "" if value is None or base is None else f"{100 * (value - base):+.1f}"


def _costs(content: Mapping[str, Any], stage: int, stages: int) -> list[str]:
    """Parameters, operations and latency of a stage's network; the last stage has the last one."""
    costs, names = (
        content["costs"],
        [p["name"] for p in content["phases"] if p.get("metrics")],
    )
    spent = [*costs.values()][-1] if stage == stages - 1 else costs.get(names[stage], {})
    return [short(spent.get("parameters")), short(spent.get("flops")), _milliseconds(spent)]


def _labels_seen(content: Mapping[str, Any]) -> str:
    """Target labels that the run looked at, in words; empty of none."""
    if not content["uses_target_labels"]:
        return ""
    if content["selection"] == "oracle":
        return "   oracle: target test labels"
    stopped = any(
        p.get("early_stopping", {}).get("split") == "target_val" for p in content["phases"]
    )
    validated = stopped or content["selection"] == "target_val"
    seen = ["target_labelled", *(["target_val"] if validated else [])]
    labels = sum(content["sizes"].get(name, 0) for name in seen)
    return f"   saw {labels:,} target labels" if labels else "   the teacher saw target labels"


def _selection(content: Mapping[str, Any]) -> str:
    """Selection rule, and the epoch that it took."""
    epoch = content["selected_epoch"]
    return content["selection"] + (f" (epoch {epoch})" if epoch else "")


def _of_tasks(content: Mapping[str, Any], path: Path) -> str:
    """Scores of few-shot test tasks against inner steps, as text."""
    curve = content["curve"]["meta_test"]
    metric = inner_steps.metric_of(curve)
    table = Table(box=box.SIMPLE_HEAD, title=None)
    for head in ("inner steps", f"{metric}, %" if metric == METRIC else metric, "± 95 %"):
        table.add_column(head, justify="right")
    for row in inner_steps.rows(curve):
        table.add_row(*row)
    plan, notes = content["phases"][-1].get("plan"), content["protocol"].split("; ")
    notes += content.get("notes", {}).get("meta_test", {}).values()
    return (
        f"\n{_lines(table)}\n\n{_wrapped(' tasks     ', notes)} selection {_selection(content)}   "
        f"time {content['wall_s']:.0f} s"
        f"{f'   batched as {plan}' if plan else ''}\n folder {path}"
    )


def _lines(table: Table) -> str:
    """Text of a table, without blank lines."""
    with io.StringIO() as out:
        Console(file=out, width=WIDTH, color_system=None).print(table)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def _by_target(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Score on each of several targets or tasks: ``95.1 usps``, or an error of numbers."""
    prefix = "target_test_"

    def text(found: Mapping[str, float]) -> str:
        return (
            _percent(found[METRIC])
            if METRIC in found
            else " ".join(f"{key} {value:.3f}" for key, value in [*found.items()][:1])
        )

    return [
        f"{text(found)} {name.removeprefix(prefix)}"
        for name, found in metrics.items()
        if name.startswith(prefix)
    ]


def _of_unlabelled(content: Mapping[str, Any]) -> str:
    """Lines on a target without labels: how it was predicted; empty where it has labels."""
    found = content.get("target_predictions")
    if not found:
        return ""
    predicted = f"{found['samples']:,} predicted (predictions.csv)"
    why = "every label is trained on" if content["sizes"].get("target_labelled") else "no labels"
    if "shares" not in found:
        ends = f"{_number(found['lowest'])} to {_number(found['highest'])}"
        said = f"{why}, so no error: {predicted}, {ends}, mean {_number(found['mean'])}"
        return _wrapped(" target    ", [said])
    head = f"{why}, so no accuracy: {predicted}, mean confidence {_percent(found['confidence'])} %"
    shares = [
        f"{_percent(share['predicted'])} {name}"
        + ("" if share["source"] is None else f" (source {_percent(share['source'])})")
        for name, share in [*found["shares"].items()][:SHARES]
    ]
    if len(found["shares"]) > SHARES:
        shares.append(f"and {len(found['shares']) - SHARES:,} more in result.json")
    every = content["metrics"].get("target_train", {})
    scores = {name: value for name, value in every.items() if name not in ESTIMATES}
    return (
        _wrapped(" target    ", [head])
        + _wrapped(" shares, % ", shares)
        + _wrapped(" scores    ", [f"{name} {value:.4f}" for name, value in scores.items()])
        + _wrapped(" estimate  ", _estimated(content, every))
    )


def _estimated(content: Mapping[str, Any], metrics: Mapping[str, float]) -> list[str]:
    """Estimates of the accuracy that were measured to hold for this method, in words."""
    if not ESTIMATES.keys() & metrics.keys():
        return []
    intervals = content["intervals"].get("target_train", {})
    believed = content["target_predictions"].get("estimated_by", [])
    found = [
        f"{_percent(metrics[name])} % [{_percent(intervals[name][0])}, "
        f"{_percent(intervals[name][1])}] by {ESTIMATES[name]}"
        for name in believed
        if name in metrics and name in intervals
    ]
    if found:
        return ["of the accuracy, by confidence:", *found]
    return ["withheld: none was measured to hold for this method (docs/selection.md)"]


def _by_epoch(rules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Choices of the selection rules, the best first: ``96.2 im, snd (epoch 7)``."""
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
    """Parts behind a head, over lines of at most ``WIDTH`` that break between parts.

    Empty without any part.
    """
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
    """Standard error of an accuracy on n images, or of another score by its interval."""
    if value is None or not n:
        return None
    if content["classes"]:
        return (value * (1 - value) / n) ** 0.5
    low, high = content["intervals"].get("target_test", {}).get(content["metric"], (None, None))
    return None if low is None or high is None else (high - low) / 3.92
