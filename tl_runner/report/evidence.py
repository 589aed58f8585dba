"""Numbers behind the figures, from the files of a group's runs.

NumPy and scikit-learn; no drawing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tl_runner.metrics.log_odds import log_odds
from tl_runner.metrics.selection_rules import EVALUATED, EVALUATIONS
from tl_runner.report.reading import as_list, mapping, number, warn
from tl_runner.report.runs import Run
from tl_runner.similarity import tsne

BINS = 15
_NOT_VALUES = {"phase", "epoch", "step", "split", "selected", "wall_s"}


@dataclass(frozen=True)
class Band:
    """Mean curve with its standard deviation over seeds.

    ``x``, ``mean``, ``std`` (P,), from ``n`` runs.
    """

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    n: int


def arrays(file: Path) -> dict[str, np.ndarray]:
    """Numeric arrays of an ``.npz``; empty if there is none, or with a warning if it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        warn(f"{file} cannot be read ({type(error).__name__}).")
        return {}


def predictions(run: Run, split: str, ranked: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities (N, K) and labels (N,) of a split, if the run kept ones that fit each other.

    Args:
        ranked: log-odds in the place of probabilities, where the run kept logits.
    """
    content = arrays(run.folder / "predictions.npz") if run.status == "done" else {}
    p, y = content.get(f"{split}/probabilities"), content.get(f"{split}/labels")
    if (
        p is None
        or y is None
        or p.ndim != 2
        or y.shape != p.shape[:1]
        or not len(y)
        or y.dtype.kind not in "iu"
    ):
        return None
    if p.dtype.kind != "f" or not np.isfinite(p).all() or y.min() < 0 or y.max() >= p.shape[1]:
        return None
    z = content.get(f"{split}/logits") if ranked else None
    if z is not None and z.shape == p.shape and z.dtype.kind == "f" and np.isfinite(z).all():
        return log_odds(z), y.astype(np.int64)
    return p.astype(np.float64), y.astype(np.int64)


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Band:
    """Mean and standard deviation of (x, y) curves at each x that any of them has."""
    x = np.unique(np.concatenate([x for x, _ in curves]))
    table = np.full((len(curves), len(x)), np.nan)
    for line, (own, y) in zip(table, curves, strict=True):
        line[np.searchsorted(x, own)] = y
    there = (~np.isnan(table)).sum(0)
    mean = np.nansum(table, 0) / there
    squares = np.nansum((table - mean) ** 2, 0)
    return Band(x, mean, np.sqrt(squares / np.maximum(there - 1, 1)), len(curves))


def phases(runs: Iterable[Run]) -> list[str]:
    """Names of the phases in the order in which they first come."""
    return list(dict.fromkeys(str(row.get("phase")) for run in runs for row in run.epochs))


def curve(runs: Iterable[Run], phase: str, split: str, name: str) -> Band | None:
    """Values of a metric by epoch over the seeds of a group; None if no run recorded it."""
    curves = []
    for run in runs:
        rows = [
            row for row in run.epochs if row.get("phase") == phase and row.get("split") == split
        ]
        points = {
            row["epoch"]: y
            for row in rows
            if isinstance(row.get("epoch"), int) and (y := number(row.get(name))) is not None
        }
        if points:
            curves.append((np.array(list(points)), np.array(list(points.values()))))
    return band(curves) if curves else None


def inner_steps(runs: Iterable[Run], metric: str) -> Band | None:
    """Score of test tasks by the number of inner steps, over the seeds of a group.

    None if no run has it.
    """
    curves = []
    for run in runs:
        found = (
            mapping(mapping(run.result.get("curve")).get("meta_test"))
            if run.status == "done"
            else {}
        )
        steps, values = (
            np.array([number(v) for v in as_list(found.get(name))], dtype=float)
            for name in ("steps", metric)
        )
        if (
            steps.ndim == 1
            and steps.shape == values.shape
            and len(steps)
            and np.isfinite(values).all()
        ):
            curves.append((steps, values))
    return band(curves) if curves else None


def losses(runs: Sequence[Run], phase: str) -> dict[str, Band]:
    """Values that a phase's updates reported each epoch, by name.

    Losses, and a discriminator's accuracy.
    """
    rows = [row for run in runs for row in run.epochs if row.get("phase") == phase]
    named = {(str(row.get("split")), name) for row in rows for name in row if _is_value(name)}
    reported = sorted(
        (split, name) for split, name in named if not (split in EVALUATED and name in EVALUATIONS)
    )
    found = {name: curve(runs, phase, split, name) for split, name in reported}
    return {name: value for name, value in found.items() if value}


def _is_value(name: str) -> bool:
    return name not in _NOT_VALUES and not name.startswith("lr") and not name.endswith("_ci95")


def confusion(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Counts (K, K) summed over runs: row the true class, column the predicted one."""
    k = found[0][0].shape[1]
    return sum(
        np.bincount(y * k + p.argmax(1), minlength=k * k) for p, y in found if p.shape[1] == k
    ).reshape(k, k)  # type: ignore[union-attr]


def roc(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Band, list[float]] | None:
    """ROC averaged over classes and runs, and each run's mean area.

    One against the rest, for the classes that have both kinds of sample.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    x, curves, areas = np.linspace(0, 1, 101), [], []
    for p, y in found:
        classes = [k for k in range(p.shape[1]) if 0 < (y == k).sum() < len(y)]
        if classes:
            each = [roc_curve(y == k, p[:, k])[:2] for k in classes]
            rates = np.mean([np.interp(x, false, true) for false, true in each], 0)
            curves.append((x, np.concatenate([[0.0], rates[1:]])))
            areas.append(float(np.mean([roc_auc_score(y == k, p[:, k]) for k in classes])))
    return (band(curves), areas) if curves else None


@dataclass(frozen=True)
class Reliability:
    """Calibration in bins (B,) that hold a sample.

    Accuracy and mean confidence, share of all samples, and each run's ECE.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray
    ece: list[float]


def reliability(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Reliability:
    """Calibration of the top probability in 15 bins of equal width, pooled over runs.

    Guo et al., ICML 2017, eq. 3.
    """
    sums = np.zeros((3, BINS))  # of samples, confidence and hits
    ece = []
    for p, y in found:
        top, hit = p.max(1), p.argmax(1) == y
        place = np.clip(np.ceil(top * BINS).astype(int) - 1, 0, BINS - 1)
        own = np.stack(
            [np.bincount(place, weights=w, minlength=BINS) for w in (np.ones(len(y)), top, hit)]
        )
        ece.append(float(np.abs(own[1] - own[2]).sum() / len(y)))
        sums += own
    n, confidence, hits = sums[:, sums[0] > 0]
    return Reliability(confidence / n, hits / n, n / n.sum(), ece)


def embedding(run: Run, when: str) -> tuple[np.ndarray, np.ndarray] | None:
    """t-SNE of a run's features ``before`` or ``after`` adaptation.

    Source and target points (n, 2), both domains embedded together.
    """
    content = arrays(run.folder / "embeddings.npz")
    source, target = (content.get(f"{when}/{domain}") for domain in ("source", "target"))
    if (
        source is None
        or target is None
        or {source.ndim, target.ndim} != {2}
        or {source.dtype.kind, target.dtype.kind} != {"f"}
    ):
        return None
    rows = tsne.subsample(len(source), len(target))
    return tsne.embed(source[rows[0]], target[rows[1]])
