"""How far estimates of an accuracy without labels were off, by method, over recorded runs.

    python scripts/estimate_errors.py FOLDER ...

Every finished run below the folders that has target test labels counts: its estimates are made
again from its own ``predictions.npz`` (source validation, and the target images that it adapted
to), and compared with its accuracy on the target's test images, which they never see. Prints a
Markdown table: the mean absolute error in points with Student's 95 % interval over runs, and the
mean of the error with its sign. Beside the recorded ones it has ATC by entropy and COT (Lu et al.,
"Predicting Out-of-Distribution Error with Confidence Optimal Transport", 2023), which we left out.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment

from tl_runner.metrics.estimates import ESTIMATORS, atc

MOST = 600  # samples of a domain that are matched with each other


def by_entropy(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> float:
    """ATC with minus the entropy as score."""
    p, q = (np.clip(x.astype(np.float64), 1e-12, 1) for x in (source, target))
    sure, there = ((x * np.log(x)).sum(1) for x in (p, q))
    return atc(sure, source.argmax(1) == labels, there)


def cot(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> float:
    """1 less the optimal-transport distance of target probabilities and source labels."""
    draw = np.random.default_rng(0)
    n = min(MOST, len(labels), len(target))
    classes = labels[draw.permutation(len(labels))[:n]]
    p = target[draw.permutation(len(target))[:n]]
    cost = 1 - p[:, classes]  # half the L1 distance to the class's corner
    return 1 - float(cost[linear_sum_assignment(cost)].mean())


def errors(folder: Path) -> tuple[str, str, dict[str, float]] | None:
    """(method, data, error of each estimator) of one run; None of one that does not count."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    truth = content.get("metrics", {}).get("target_test", {}).get("accuracy")
    if content["status"] != "done" or truth is None:
        return None
    with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
        names = ("source_val/probabilities", "source_val/labels", "target_train/probabilities")
        if any(name not in stored for name in names):
            return None
        source, labels, target = (stored[name] for name in names)
    if source.shape[1] != target.shape[1]:
        return None
    arguments = source.max(1), source.argmax(1) == labels, target.max(1)
    found = {name: estimate(*arguments) for name, estimate in ESTIMATORS.items()}
    found |= {
        "atc, entropy": by_entropy(source, labels, target),
        "cot": cot(source, labels, target),
    }
    choices = content["choices"]
    return choices["method"], choices["data"], {k: 100 * (v - truth) for k, v in found.items()}


def cell(values: list[float]) -> str:
    """Mean absolute error with its interval, and the mean with its sign."""
    x, half = np.abs(values), 0.0
    if len(x) > 1:
        half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)
    low, high = max(0.0, x.mean() - half), x.mean() + half
    return f"{x.mean():.1f} [{low:.1f}, {high:.1f}] ({np.mean(values):+.1f})"


def main(roots: list[str]) -> None:
    by_method: dict[str, list[dict[str, float]]] = defaultdict(list)
    for root in roots:
        for file in sorted(Path(root).rglob("result.json")):
            if found := errors(file.parent):
                by_method[found[0]].append(found[2])
    runs = [run for members in by_method.values() for run in members]
    names = list(runs[0])
    print(f"{len(runs)} runs; points, mean absolute error [95 %] (mean error)\n")
    print("| method | runs | " + " | ".join(names) + " |")
    print("| --- | --- |" + " --- |" * len(names))
    for method, members in [*sorted(by_method.items()), ("all", runs)]:
        cells = " | ".join(cell([run[name] for run in members]) for name in names)
        print(f"| {method} | {len(members)} | {cells} |")


if __name__ == "__main__":
    main(sys.argv[1:])
