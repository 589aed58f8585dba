"""Few-shot tasks in training and in scoring: meta-batches, and a fixed list of test tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.episodes import Drawn, Episodes
from tl_runner.data.splits import Split
from tl_runner.errors import ConfigError, DivergedError
from tl_runner.methods.batch import Batch, TaskSet
from tl_runner.methods.fewshot._base import MetaLearner
from tl_runner.methods.phases import Phase
from tl_runner.metrics.evaluation_report import Report
from tl_runner.training.batches import pixels
from tl_runner.training.device import Device
from tl_runner.training.distributed import ALONE, Ranks

# times the mean error of the first weights: more than that counts as that, from a task whose inner
# loop diverged
BLOWN_UP = 100
AT_ONCE, PIXELS = 40, 2**21  # tasks that are scored together, and their images' pixels, at most


class TaskBatches:
    """The meta-batches of a phase: fresh tasks in every step. Several ranks draw the same ones and
    each takes its part.

    Args:
        episodes: by the phase's name of them, one.
        tasks: in a meta-batch.
        steps: of an epoch.

    Raises:
        ConfigError: no number of steps.
    """

    def __init__(
        self,
        episodes: Mapping[str, Episodes],
        tasks: int,
        steps: int | None,
        device: Device,
        stream: tuple[int, str],
        ranks: Ranks = ALONE,
    ):
        if steps is None:
            raise ConfigError(["tasks have no end: set method.meta.steps_per_epoch to a number."])
        (self.episodes,) = episodes.values()
        self.splits: Mapping[str, Split] = {}  # tasks have no whole split to pass over
        self.tasks, self.steps = tasks, steps
        self.device, self.stream, self.ranks = device, stream, ranks
        self._plan = torch.empty(0)

    @property
    def images(self) -> int:
        """Of one step, on this rank."""
        return self.tasks * self.episodes.ways * (self.episodes.shots + self.episodes.queries)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's tasks, onto the device."""
        generator = randomness.generator(*self.stream, epoch, "tasks")
        plans = [
            self.episodes.plan(self.tasks * self.ranks.world, generator) for _ in range(self.steps)
        ]
        parts = [
            plan.unflatten(0, (self.ranks.world, self.tasks))[self.ranks.rank] for plan in plans
        ]
        self._plan = torch.stack(parts).to(self.device.torch)

    def __getitem__(self, step: int) -> Batch:
        """The meta-batch of a step of this epoch."""
        return Batch(**sets(self.episodes.at(self._plan[step]), self.episodes.ways))


def sets(drawn: Drawn, ways: int) -> dict[str, TaskSet]:
    """``support`` and ``query`` as networks read them."""
    return {
        "support": TaskSet(pixels(drawn.support), drawn.support_y, drawn.support_index, ways),
        "query": TaskSet(pixels(drawn.query), drawn.query_y, drawn.query_index, ways),
    }


class TaskEvaluator:
    """Scores a learner of tasks on a list of them that is always the same; nothing that it returns
    is seen by training.

    Args:
        method: on the device already, as ``episodes`` are.
        seed: draws the tasks.
    """

    def __init__(
        self, method: MetaLearner, episodes: Mapping[str, Episodes], device: Device, seed: int
    ):
        self.method, self.episodes, self.device, self.seed = method, episodes, device, seed
        self.lost: dict[str, int] = {}  # tasks that diverged
        self.plans = {
            name: e.plan(e.scored, randomness.generator(seed, "tasks", name))
            for name, e in episodes.items()
            if e.scored
        }

    def after_epoch(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics on validation tasks."""
        return (
            {"meta_val": headline(self.scores("meta_val"), self.metric)}
            if "meta_val" in self.plans
            else {}
        )

    def after_phase(self, phase: Phase) -> dict[str, dict[str, float]]:
        """The same on all tasks."""
        return {name: headline(self.scores(name), self.metric) for name in self.plans}

    def at_the_end(self, phase: Phase) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """(reports by split, every task's scores) on validation and test tasks."""
        reports: dict[str, Report] = {}
        predictions: dict[str, np.ndarray] = {}
        for name in self.plans:
            scores = predictions[f"{name}/{self.metric}"] = self.scores(name)
            reports[name] = report(scores, self.metric, self.lost[name])
        return reports, predictions

    def embeddings(self, phase: Phase) -> dict[str, np.ndarray]:
        """None: there are no two domains."""
        return {}

    @property
    def metric(self) -> str:
        """accuracy, or mse."""
        return "mse" if next(iter(self.episodes.values())).numbers else "accuracy"

    def scores(self, name: str) -> np.ndarray:
        """Of every task after each inner step, float64 (tasks, steps + 1); an error beyond
        ``BLOWN_UP`` counts as that.

        Raises:
            DivergedError: more than half of the tasks did, or the first weights.
        """
        episodes, found = self.episodes[name], []
        pixels_of = (
            episodes.ways
            * (episodes.shots + episodes.queries)
            * episodes.shape[1]
            * episodes.shape[2]
        )
        self.method.eval()
        for number, plan in enumerate(
            self.plans[name].split(max(1, min(AT_ONCE, PIXELS // pixels_of)))
        ):
            self.device.begin_step()
            randomness.seed_device(self.device.torch, self.seed, "score", name, number)
            both = sets(episodes.at(plan.to(self.device.torch)), episodes.ways)
            with self.device.autocast(), torch.no_grad():
                found.append(scored(self.method.curve(**both), both["query"].y))
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


def scored(said: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Of outputs (T, steps + 1, Q, K): their scores and whether all of a task's are finite, (T,
    steps + 1) each.

    Against classes (T, Q) the score is the accuracy, an answer that is NaN or infinite being wrong;
    against numbers the squared error.
    """
    finite = said.isfinite().all(3)
    if y.is_floating_point():
        return (said[..., 0].float() - y[:, None]).square().mean(2), finite.all(2)
    return ((said.argmax(3) == y[:, None]) & finite).float().mean(2), finite.all(2)


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
