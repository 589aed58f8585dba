"""Scores of a few-shot learner on a fixed list of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tl_runner import randomness
from tl_runner.errors import DivergedError
from tl_runner.training.phase_key import digest_of
from tl_runner.training.task_batches import task_sets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tl_runner.data.episodes import Episodes
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.metrics.evaluation_report import Report
    from tl_runner.training.device import Device

# times the mean error of the first weights: more than that counts as that, from a task whose inner
# loop diverged
BLOWN_UP = 100
AT_ONCE, PIXELS = 40, 2**21  # tasks that are scored together, and their images' pixels, at most


class TaskEvaluator:
    """Scores phases by their ``outputs.curve`` on tasks that are always the same; nothing that it
    returns is seen by training.

    Args:
        method: holds the networks of the phases, on the device already, as ``episodes`` are.
        seed: draws the tasks.
    """

    def __init__(self, method: Method, episodes: Mapping[str, Episodes], device: Device, seed: int):
        self.method, self.episodes, self.device, self.seed = method, episodes, device, seed
        self.lost: dict[str, int] = {}  # tasks that diverged
        # the last scores of each list of tasks, with the phase and the digest of their weights
        self.known: dict[str, tuple[str, str, np.ndarray]] = {}
        self.tasks = {
            name: e.plan(e.scored, randomness.generator(seed, "tasks", name))
            for name, e in episodes.items()
            if e.scored
        }

    def problems(self, phases: Sequence[Phase], selection: str) -> list[str]:
        """Reasons why this run's tasks cannot be scored."""
        found = [
            f"the phase {phase.name} does not say what it makes of few-shot tasks (Outputs.curve)."
            for phase in phases
            if phase.outputs.curve is None
        ]
        if self.device.torch.type == "cpu" and self.device.precision != "fp32":
            found.append(
                f"device.precision={self.device.precision}: on a CPU autocast misses what tasks "
                "compute together. Choose fp32."
            )
        return found

    def after_epoch(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics on validation tasks."""
        if "meta_val" not in self.tasks:
            return {}
        return {"meta_val": headline(self.scores(phase, "meta_val"), self.metric)}

    def after_phase(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics on validation and on test tasks."""
        return {name: headline(self.scores(phase, name), self.metric) for name in self.tasks}

    def at_the_end(self, phase: Phase) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """(reports by split, every task's scores) on validation and test tasks."""
        reports: dict[str, Report] = {}
        predictions: dict[str, np.ndarray] = {}
        for name in self.tasks:
            scores = predictions[f"{name}/{self.metric}"] = self.scores(phase, name)
            reports[name] = report(scores, self.metric, self.lost[name])
        return reports, predictions

    def embeddings(self, phase: Phase) -> dict[str, np.ndarray]:
        """Nothing: there are no two domains."""
        return {}

    @property
    def metric(self) -> str:
        """Name of the score: accuracy, or mse."""
        return "mse" if next(iter(self.episodes.values())).numbers else "accuracy"

    def scores(self, phase: Phase, name: str) -> np.ndarray:
        """Score of every task after each inner step, float64 (tasks, steps + 1); an error beyond
        ``BLOWN_UP`` counts as that. Weights that were scored a moment ago are not scored again.

        Raises:
            DivergedError: more than half of the tasks did, or the first weights.
        """
        weights = digest_of([self.method.state_dict()])
        if self.known.get(name, ("", "", None))[:2] != (phase.name, weights):
            self.known[name] = phase.name, weights, self._scores(phase, name)
        return self.known[name][2]

    def _scores(self, phase: Phase, name: str) -> np.ndarray:
        assert phase.outputs.curve
        episodes, found = self.episodes[name], []
        pixels_of = (
            episodes.ways
            * (episodes.shots + episodes.queries)
            * episodes.shape[1]
            * episodes.shape[2]
        )
        self.method.eval()
        at_once = max(1, min(AT_ONCE, PIXELS // pixels_of))
        for number, tasks in enumerate(self.tasks[name].split(at_once)):
            self.device.begin_step()
            randomness.seed_device(self.device.torch, self.seed, "score", name, number)
            sets = task_sets(episodes.at(tasks.to(self.device.torch)), episodes.ways)
            with self.device.autocast(), torch.no_grad():
                logits = phase.outputs.curve(sets["support"], sets["query"])
                found.append(scored(logits, sets["query"].y))
        scores, finite = (torch.cat(part) for part in zip(*found, strict=True))
        if episodes.numbers:
            bound = BLOWN_UP * scores[:, 0].mean()
            finite = scores <= bound
            scores = torch.where(finite, scores, bound)
        self.lost[name] = int((~finite[:, -1]).sum())
        if not scores.isfinite().all() or self.lost[name] > len(scores) / 2:
            raise DivergedError(
                f"{self.lost[name]} of {len(scores)} tasks diverged in the inner loop: their "
                "outputs became huge, NaN or infinite. "
                f"{self.method.if_diverged}"
            )
        return scores.double().cpu().numpy()


def scored(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of outputs (T, steps + 1, Q, K), and whether all of a task's are finite: (T, steps +
    1) each.

    Against classes (T, Q) the score is the accuracy, an output that is NaN or infinite being wrong;
    against numbers the squared error.
    """
    finite = logits.isfinite().all(3)
    if y.is_floating_point():
        return (logits[..., 0].float() - y[:, None]).square().mean(2), finite.all(2)
    return ((logits.argmax(3) == y[:, None]) & finite).float().mean(2), finite.all(2)


def headline(scores: np.ndarray, metric: str) -> dict[str, float]:
    """The mean over tasks after the last step, and half the width of its 95 % interval: 1.96
    standard errors."""
    last = scores[:, -1]
    return {metric: float(last.mean()), f"{metric}_ci95": half_width(last)}


def half_width(values: np.ndarray) -> float:
    """1.96 standard errors of a mean over tasks; 0 of one task."""
    return float(1.96 * values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def report(scores: np.ndarray, metric: str, lost: int = 0) -> Report:
    """Means over tasks, with intervals, and the curve against inner steps; ``lost`` tasks
    diverged."""
    found = headline(scores, metric)
    steps = [*scores.T]
    after = {f"{metric}_after_{n}": float(np.mean(values)) for n, values in enumerate(steps)}
    half = found[f"{metric}_ci95"]
    curve = {
        "steps": [*range(len(steps))],
        metric: [*after.values()],
        "ci95": [half_width(v) for v in steps],
    }
    counted = (
        "NaN counts as wrong"
        if metric == "accuracy"
        else f"their errors count as {BLOWN_UP} times the mean of the first weights'"
    )
    notes = (
        {metric: f"{lost} of {len(scores)} tasks diverged in the inner loop, {counted}."}
        if lost
        else {}
    )
    return {
        "metrics": found | after,
        "intervals": {metric: [found[metric] - half, found[metric] + half]},
        "curve": curve,
        "notes": notes,
    }
