"""Scores of a run: evaluated after epochs, after phases and at the end, and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tl_runner.metrics import selection_rules as rules
from tl_runner.record import embeddings
from tl_runner.training.evaluator import Evaluator
from tl_runner.training.task_evaluator import TaskEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from tl_runner.data.episodes import Episodes
    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.metrics.evaluation_report import Report
    from tl_runner.record.run_folder import RunFolder
    from tl_runner.training.device import Device
    from tl_runner.training.position import Position


class PhaseEvaluator(Protocol):
    """Scores of what a phase makes, on samples that no training reads: of splits or of tasks."""

    def problems(self, phases: Sequence[Phase], selection: str) -> list[str]:
        """Reasons why these phases cannot be scored, or not by this selection rule."""

    def after_epoch(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics by split, of which the selection rules read theirs."""

    def after_phase(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics by split, of a phase other than the last."""

    def at_the_end(self, phase: Phase) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """(reports by split, arrays of ``predictions.npz``)."""

    def embeddings(self, phase: Phase) -> dict[str, np.ndarray]:
        """Arrays of features, for pictures of the two domains."""


def evaluator_of(
    method: Method,
    splits: Mapping[str, Split],
    episodes: Mapping[str, Episodes],
    device: Device,
    seed: int,
    oracle: bool,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> PhaseEvaluator:
    """The evaluator that suits the data: of few-shot tasks where there are any, else of splits."""
    if episodes:
        return TaskEvaluator(method, episodes, device, seed)
    return Evaluator(method, splits, device, seed, oracle, classes)


class ScoreKeeper:
    """Asks an evaluator, and writes rows of ``metrics.jsonl`` that say where the run stood.

    Args:
        at: where it stands.
        wall_s: the seconds that it has taken.
    """

    def __init__(
        self,
        evaluator: PhaseEvaluator,
        folder: RunFolder,
        at: Position,
        wall_s: Callable[[], float],
    ):
        self.evaluator, self.folder, self.at, self.wall_s = evaluator, folder, at, wall_s

    def after_epoch(self, phase: Phase, count: int) -> dict[str, float]:
        """The score of each selection rule, after ``count`` steps; all metrics are recorded,
        whichever rule decides."""
        found = self.evaluator.after_epoch(phase)
        for split, metrics in found.items():
            self.record(phase, count, split, metrics)
        # shown; no rule goes by it
        errors = (
            {"meta_val mse": found["meta_val"]["mse"]} if "mse" in found.get("meta_val", {}) else {}
        )
        return rules.scores(found) | errors

    def after_phase(self, phase: Phase, first: bool) -> dict[str, dict[str, float]]:
        """Metrics by split of what a phase other than the last made; of the first one also the
        features."""
        found = self.evaluator.after_phase(phase)
        for split, metrics in found.items():
            if split != "source_val":
                self.record(phase, None, split, metrics)
        if first:
            embeddings.keep(self.folder, "before", self.evaluator.embeddings(phase))
        return found

    def at_the_end(
        self, phase: Phase, epoch: int
    ) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """The weights of ``epoch`` of the last phase on every split: (reports, predictions)."""
        reports, predictions = self.evaluator.at_the_end(phase)
        for split, found in reports.items():
            where = {"phase": phase.name, "epoch": epoch, "selected": True, "split": split}
            self.folder.metric({**where, **found["metrics"]})
        embeddings.keep(self.folder, "after", self.evaluator.embeddings(phase))
        return reports, predictions

    def record(
        self, phase: Phase, count: int | None, split: str, metrics: Mapping[str, float]
    ) -> None:
        """One row: metrics of a split, after ``count`` steps or, with None, after the phase."""
        step = {} if count is None else {"step": count}
        self.folder.metric(
            {
                "phase": phase.name,
                "epoch": self.at.epoch,
                **step,
                "split": split,
                **metrics,
                "wall_s": round(self.wall_s(), 3),
            }
        )


def headlines(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The first metric of each split, for the user."""
    return ", ".join(
        f"{split} {name} {value:.4f}"
        for split, values in metrics.items()
        for name, value in [*values.items()][:1]
    )
