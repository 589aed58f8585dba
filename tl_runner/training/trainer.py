"""Runs a method's phases one after another: epochs, evaluation, selection, checkpoints, resume."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tl_runner import randomness
from tl_runner.errors import ConfigError
from tl_runner.metrics import selection_rules as rules
from tl_runner.training import phase_cache, phase_key
from tl_runner.training.distributed import ALONE, Ranks
from tl_runner.training.interrupt import Interrupt, Interrupted
from tl_runner.training.last_checkpoint import LastCheckpoint
from tl_runner.training.loop_factory import LoopFactory
from tl_runner.training.phase_checks import (
    unfit,
    unheeded_norms,
    unread_target_labels,
    use_target_labels,
)
from tl_runner.training.position import Position
from tl_runner.training.score_keeper import ScoreKeeper, evaluator_of, headlines
from tl_runner.training.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from tl_runner.data.episodes import Episodes
    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.metrics.evaluation_report import Report
    from tl_runner.record.console import Progress
    from tl_runner.record.run_folder import RunFolder
    from tl_runner.training.batches import Augment
    from tl_runner.training.device import Device
    from tl_runner.training.phase_cache import PhaseCache
    from tl_runner.training.phase_loop import PhaseLoop


class Trainer:
    """One run.

    Args:
        method: on the device already.
        splits: by name, on the device already.
        config: the resolved config, kept in every checkpoint.
        augment: of the training batches, or None.
        folder: takes metrics and checkpoints.
        progress: what the user watches.
        ranks: the processes that share the run. All train; rank 0 alone evaluates and writes
            checkpoints.
        cache: finished phases of other runs, or None.
        episodes: few-shot tasks by name, on the device already, where these are learned and not the
            splits.
        passes: the most that an epoch goes over the samples that a phase adapts to, or None.
        classes: names of each domain's classes, for the notes of its report.
    """

    def __init__(
        self,
        method: Method,
        splits: Mapping[str, Split],
        device: Device,
        config: Mapping[str, Any],
        augment: Augment | None,
        folder: RunFolder,
        progress: Progress,
        ranks: Ranks = ALONE,
        cache: PhaseCache | None = None,
        episodes: Mapping[str, Episodes] | None = None,
        passes: float | None = None,
        classes: Mapping[str, Sequence[str]] | None = None,
    ):
        self.method, self.splits, self.device, self.config = method, splits, device, config
        self.augment, self.folder, self.progress = augment, folder, progress
        self.ranks, self.cache, self.episodes = ranks, cache, episodes or {}
        self.seed, self.selection = config["seed"], config["selection"]
        self.phases = method.phases()
        self.at = Position()
        self._resumed: PhaseLoop | None = None
        self._started = time.perf_counter()
        limit = {**config["train"]["limit"], "passes": passes}
        self.loops = LoopFactory(
            method, splits, self.episodes, device, self.seed, limit, augment, ranks
        )
        oracle = self.selection == "oracle"
        evaluator = evaluator_of(method, splits, self.episodes, device, self.seed, oracle, classes)
        self.scores = ScoreKeeper(evaluator, folder, self.at, self.wall_s)
        self.best = Selection(self.selection, method, folder, self.at, ranks)
        self.last = LastCheckpoint(
            folder, config, method, device, self.at, self.phases, self.loops, ranks
        )
        self._check()
        for warning in (*self.method.warnings, *filter(None, [ranks.limits(self.phases)])):
            self.warn(warning)

    def _check(self) -> None:
        """Refuse phases that cannot run on this data, before any does."""
        there: dict[str, Split | Episodes] = {**self.splits, **self.episodes}
        if problems := [
            *unfit(self.phases, there, self.selection),
            *self.scores.evaluator.problems(self.phases, self.selection),
        ]:
            raise ConfigError(problems)
        self.uses_target_labels = use_target_labels(self.phases, self.selection, self.method)
        for warning in (
            unread_target_labels(self.phases, self.splits, self.method),
            unheeded_norms(self.phases, self.method),
        ):
            if warning:
                self.warn(warning)

    # ---- checkpoints

    def save(self, loop: PhaseLoop | None) -> None:
        """Write ``last.pt``."""
        self.at.wall_s = self.wall_s()
        self.last.save(loop)

    def restore(self) -> None:
        """Take up ``last.pt``.

        Raises:
            CheckpointError: it does not fit this run.
        """
        self._resumed = self.last.restore()
        self._started = time.perf_counter() - self.at.wall_s

    def wall_s(self) -> float:
        """Seconds of training and evaluation so far, over all attempts."""
        return time.perf_counter() - self._started

    # ---- the run

    def run(self) -> None:
        """Every phase that is not done yet.

        Raises:
            DivergedError: a loss is not finite.
            Interrupted: the user or the scheduler asked to stop; a checkpoint was written.
        """
        with Interrupt() as interrupt:
            while self.at.phase < len(self.phases):
                # a phase without epochs asks nowhere else
                if self._resumed is None and self.ranks.any(interrupt.requested):
                    self.save(None)
                    raise Interrupted
                self._phase(self.phases[self.at.phase], interrupt)

    def _phase(self, phase: Phase, interrupt: Interrupt) -> None:
        loop = self._resumed or self.loops.make(phase)
        key = None if self._resumed else self._key(phase)
        if self._resumed is None:
            self.at.phase_began = self.wall_s()
            if phase.hooks.begin:
                randomness.seed_all(self.loops.seed_of(phase), phase.name, "begin")
                phase.hooks.begin()
        if phase.batching.choices:
            if self._resumed is None:
                self.at.plan = self.ranks.share(loop.fastest)
                self.save(loop)  # what was measured is not measured again
            loop.follow(self.at.plan)
        self._resumed = None
        shared: dict[str, Any] = {}
        if key is None:
            self._train(loop, interrupt)
        else:
            shared = self._share(key, loop, interrupt)
        self._finish(loop, shared)

    def _finish(self, loop: PhaseLoop, shared: Mapping[str, Any]) -> None:
        """Score a phase that is trained, record it, and move on to the next."""
        phase, final = loop.phase, self._is_last(loop.phase)
        summary: dict[str, Any] = {
            "name": phase.name,
            "reads": sorted({*phase.reads.values()}),
            **shared,
            **({"plan": self.at.plan} if phase.batching.choices else {}),
            **self.at.stopped,
            "epochs": self.at.epoch,
            "wall_s": round(self.wall_s() - self.at.phase_began, 3),
        }
        if not final:
            summary["metrics"] = self.ranks.share(
                lambda: self.scores.after_phase(phase, first=phase is self.phases[0])
            )
            if summary["metrics"]:
                self.progress.say(
                    f"{phase.name}{' done' if loop.epochs else ', as given'}: "
                    f"{headlines(summary['metrics'])}"
                )
        self.at.phases.append(summary)
        self.at.phase, self.at.epoch, self.at.step = self.at.phase + 1, 0, 0
        if final and self.at.best_epoch is None:
            if warning := self.best.undefined(phase):
                self.warn(warning)
            self.best.keep()
        self.save(None)

    def _is_last(self, phase: Phase) -> bool:
        return phase is self.phases[-1]

    # ---- phases shared between runs

    def _key(self, phase: Phase) -> str | None:
        """The name in the cache of a phase that is about to start; None: it is this run's alone."""
        if self.cache is None or (self._is_last(phase) and self.selection != "last"):
            return None
        options = {
            "limit": self.loops.limit,
            "augment": repr(self.augment),
            "oracle": self.selection == "oracle",
        }
        seed = self.loops.seed_of(phase)
        return phase_key.key(self.method, phase, seed, self.splits, self.device, options)

    def _share(self, key: str, loop: PhaseLoop, interrupt: Interrupt) -> dict[str, Any]:
        """Take a phase from the cache, or train it and leave it there; returns what the record says
        of that."""
        assert self.cache
        phase = loop.phase
        with self.cache.claim(key, lambda: interrupt.requested):
            stored = self.cache.load(key, phase)
            if not stored:
                before = self.at.train_s, self.at.images
                self._train(loop, interrupt)
                took = round(self.wall_s() - self.at.phase_began, 3)
                rows = self.folder.metrics()
                record = phase_cache.outcome(phase, self.at, rows, before, took)
                self.cache.save(key, phase, record)
                return {}
        for row in stored["rows"]:
            self.folder.metric(row)
        for text in stored["warnings"]:
            self.warn(text)
        phase_cache.take_over(self.at, stored)
        self.progress.say(
            f"{phase.name}: {self.at.epoch} epochs taken from the phase cache, "
            f"{stored['wall_s']:.0f} s saved"
        )
        return {"shared": {"key": key, "saved_s": stored["wall_s"]}}

    # ---- the training of a phase

    def _train(self, loop: PhaseLoop, interrupt: Interrupt) -> None:
        at, phase = self.at, loop.phase
        at.stopped = {}
        done = at.epoch * loop.steps + at.step
        with self.progress.phase(phase.name, loop.epochs, loop.steps, done) as bar:
            while at.epoch < loop.epochs:
                if not at.step and loop.stopping and loop.stopping.over:
                    break
                if at.epoch and not at.step and (rested := loop.rested()):
                    self.warn(
                        f"{phase.name} ended after epoch {at.epoch}: {rested} rested for a whole "
                        "epoch (its gate was shut)."
                    )
                    break
                self._epoch(loop, interrupt, bar.advance)
        at.stopped = loop.end()
        self._fit(loop)
        if found := at.stopped.get("early_stopping"):
            self.progress.say(
                f"{phase.name} goes back to epoch {found['epoch']}: {found['split']} accuracy "
                f"{found['accuracy']:.4f}"
            )

    def _fit(self, loop: PhaseLoop) -> None:
        """Compute what a phase computes in one go, and score it as an epoch is."""
        phase = loop.phase
        if not phase.hooks.fit:
            return
        began, before = time.perf_counter(), self.at.train_s
        warnings = loop.fit()
        self.device.synchronize()
        self.at.train_s += time.perf_counter() - began
        self.at.images += sum(len(self.splits[name]) for name in phase.reads.values())
        for text in warnings:
            self.warn(text)
        count = self.at.epoch * loop.steps
        scores = self.ranks.share(lambda: self.scores.after_epoch(phase, count))
        if self._is_last(phase):
            self.best.see(scores)
        took = f"{phase.name}, {self.at.train_s - before:.1f} s"
        shown = rules.shown(scores, self.selection)
        self.progress.say(
            "  ".join([took, *(f"{name} {value:.4f}" for name, value in shown.items())])
        )

    def _epoch(self, loop: PhaseLoop, interrupt: Interrupt, advance: Callable[[], None]) -> None:
        at, phase = self.at, loop.phase
        if at.step == 0:
            loop.begin_epoch(at.epoch)
        else:  # resumed inside an epoch: its order again, its sums as they stood
            loop.batches.begin_epoch(at.epoch)
        started, first = time.perf_counter(), at.step

        def after_step(done: int) -> bool:
            at.step = done
            advance()
            return done % self.ranks.every == 0 and self.ranks.any(interrupt.requested)

        finished = loop.run_epoch(at.epoch, first, after_step)
        self.device.synchronize()
        at.train_s += time.perf_counter() - started
        at.images += (at.step - first) * loop.batches.images * self.ranks.world
        if not finished and at.step < loop.steps:
            self.save(loop)
            raise Interrupted
        self.ranks.average(loop.statistics())
        means = loop.means(at.epoch)
        at.epoch, at.step = at.epoch + 1, 0
        count = at.epoch * loop.steps
        self.scores.record(phase, count, "+".join(phase.reads.values()), means | loop.rates())
        with loop.as_predicted():
            scores = self.ranks.share(lambda: self.scores.after_epoch(phase, count))
            if self._is_last(phase):
                self.best.see(scores)
            if loop.stopping:
                loop.stopping.see(at.epoch, scores[loop.stopping.split])
        if warning := phase.diagnose(means):
            self.warn(f"{phase.name}, epoch {at.epoch}: {warning}")
        printed = {
            name: value for name, value in means.items() if not name.startswith(phase.not_printed)
        }
        self.progress.epoch(
            phase.name, at.epoch, loop.epochs, {**printed, **rules.shown(scores, self.selection)}
        )
        self.save(loop)
        if self.ranks.any(interrupt.requested):
            raise Interrupted
        if at.epoch == 1 and not self.episodes:
            self._say_what_is_left(loop)

    def _say_what_is_left(self, loop: PhaseLoop) -> None:
        """After a phase's first epoch: the minutes that the rest will take, if they are some."""
        took = (self.wall_s() - self.at.phase_began) / loop.steps  # a step, evaluation included
        later = (self.loops.length(phase) for phase in self.phases[self.at.phase + 1 :])
        steps = (loop.epochs - 1) * loop.steps + sum(epochs * n for epochs, n in later)
        if (minutes := round(took * steps / 60)) > 0:
            self.progress.say(f"about {minutes} min left")

    # ---- the end

    def load_best(self) -> None:
        """Put the weights that the selection rule chose into the method."""
        self.best.load(self.config, self.device)

    def final(self) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """The selected weights on every split: (reports by split, predictions)."""
        epoch = self.at.best_epoch or self.stopped_at() or self.at.phases[-1]["epochs"]
        return self.scores.at_the_end(self.phases[-1], epoch)

    def stopped_at(self) -> int | None:
        """The epoch that early stopping took the last phase back to."""
        return self.at.phases[-1].get("early_stopping", {}).get("epoch")

    def warn(self, text: str) -> None:
        """Tell the user and the record, once."""
        if text not in self.at.warnings:
            self.at.warnings.append(text)
            self.progress.warn(text)
