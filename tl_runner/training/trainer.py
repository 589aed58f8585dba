"""Runs a method's phases one after another: epochs, evaluation, selection, checkpoints, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tl_runner import randomness
from tl_runner.data.episodes import Episodes
from tl_runner.data.splits import Split
from tl_runner.errors import CheckpointError, ConfigError, DivergedError
from tl_runner.methods.base import Method
from tl_runner.methods.fewshot._base import MetaLearner
from tl_runner.methods.phases import Phase
from tl_runner.metrics import selection_rules as rules
from tl_runner.metrics.evaluation_report import Report
from tl_runner.record import embeddings
from tl_runner.record.console import Progress
from tl_runner.record.run_folder import RunFolder
from tl_runner.training import checkpoints, phase_cache
from tl_runner.training.batches import Augment
from tl_runner.training.device import Device
from tl_runner.training.distributed import ALONE, Ranks
from tl_runner.training.evaluator import Evaluator
from tl_runner.training.interrupt import Interrupt, Interrupted
from tl_runner.training.loop_maker import Loops
from tl_runner.training.phase_cache import PhaseCache
from tl_runner.training.phase_checks import unfit
from tl_runner.training.phase_loop import PhaseLoop
from tl_runner.training.position import Position
from tl_runner.training.task_batches import TaskEvaluator


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
    ):
        self.method, self.splits, self.device, self.config = method, splits, device, config
        self.augment, self.folder, self.progress, self.ranks, self.cache = (
            augment,
            folder,
            progress,
            ranks,
            cache,
        )
        self.seed, self.selection = config["seed"], config["selection"]
        self.phases = method.phases()
        self.at = Position()
        self._resumed: PhaseLoop | None = None
        self._started = time.perf_counter()
        self.episodes = episodes or {}
        self.loops = Loops(
            method,
            splits,
            self.episodes,
            device,
            self.seed,
            config["train"]["limit"],
            augment,
            ranks,
        )
        self.evaluator: Evaluator | TaskEvaluator = Evaluator(
            method, splits, device, self.seed, self.selection == "oracle"
        )
        if self.episodes:
            assert isinstance(method, MetaLearner)
            self.evaluator = TaskEvaluator(method, self.episodes, device, self.seed)
        self._check()
        for said in (*self.method.warnings, *filter(None, [ranks.limits(self.phases)])):
            self.warn(said)

    def _check(self) -> None:
        """Whether the phases can run on this data, before any does."""
        there: dict[str, Split | Episodes] = {**self.splits, **self.episodes}
        problems = unfit(self.phases, there, self.selection)
        if (
            isinstance(self.evaluator, Evaluator)
            and self.evaluator.numbers
            and self.selection != "last"
        ):
            problems.append(
                f"selection={self.selection} goes by classes, and the labels of this data are "
                "numbers. Leave it at last."
            )
        if self.episodes and self.device.torch.type == "cpu" and self.device.precision != "fp32":
            problems.append(
                f"device.precision={self.device.precision}: on a CPU autocast misses what tasks "
                "compute together. Choose fp32."
            )
        if problems:
            raise ConfigError(problems)
        read = {split for phase in self.phases for split in phase.reads.values()}
        self.uses_target_labels = (
            rules.RULES[self.selection].target_labels
            or bool({"target_labelled", "target_val"} & read)
            or self.method.saw_target_labels
        )
        if "target_labelled" in self.splits and "target_labelled" not in read:
            self.warn(
                f"{type(self.method).__name__} does not read target labels: data.target_labels "
                "changes nothing."
            )

    # ---- checkpoints

    def save(self, loop: PhaseLoop | None) -> None:
        """Write ``last.pt``: the next step can be taken from it alone."""
        self.at.wall_s = self.wall_s()
        state: dict[str, Any] = {
            "config": dict(self.config),
            "position": vars(self.at),
            "method": checkpoints.weights_of(self.method, self.method.elsewhere),
            "loop": loop.state_dict() if loop else None,
            "metrics_bytes": self.folder.metrics_bytes(),
        }
        if self.ranks.world > 1:
            state["ranks"] = self.ranks.gather(loop.own_state() if loop else None)
        self._write(self.folder.last, state)

    def _write(self, file: Path, state: Mapping[str, Any]) -> None:
        if self.ranks.main:
            checkpoints.save(file, state)

    def restore(self) -> None:
        """Take up ``last.pt``; ``metrics.jsonl`` is cut back to it. A run killed before its first
        starts over.

        Raises:
            CheckpointError: it does not fit this run.
        """
        for half_written in self.folder.last.parent.glob("*.tmp"):
            half_written.unlink(missing_ok=True)
        if not self.folder.last.exists():
            self.folder.cut_metrics(0)
            return
        state = checkpoints.load(self.folder.last, self.config)
        try:
            checkpoints.put_back(self.method, state["method"], self.method.elsewhere)
            # what a fit left comes back in shapes, and on a device, that only the file knows
            self.device.place(self.method)
            self.at = Position(**state["position"])
            if self.at.plan:
                # tasks are scored so, too, if only that is left
                self.phases[-1].batching.follow(self.at.plan)
            if state["loop"] is not None:
                self._resumed = self.loops.of(self.phases[self.at.phase])
                self._resumed.load_state_dict(state["loop"])
                if self.ranks.world > 1:
                    self._resumed.load_own_state(state["ranks"][self.ranks.rank])
            if self.folder.metrics_bytes() < state["metrics_bytes"]:
                raise CheckpointError(
                    f"{self.folder.metrics_file} is shorter than at the checkpoint. Start the run "
                    "afresh."
                )
            if self.at.best_epoch is not None:
                checkpoints.load(self.folder.best, self.config)
            self.folder.cut_metrics(state["metrics_bytes"])
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            line = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.folder.last} does not fit this run: {line}\n  Start the run afresh."
            ) from error
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
                if self._resumed is None and self.ranks.any(interrupt.asked):
                    self.save(None)
                    raise Interrupted
                self._phase(self.phases[self.at.phase], interrupt)

    def _phase(self, phase: Phase, interrupt: Interrupt) -> None:
        loop = self._resumed or self.loops.of(phase)
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
        final = phase is self.phases[-1]
        summary: dict[str, Any] = {"name": phase.name, "reads": sorted({*phase.reads.values()})}
        if self.cache is None or key is None:
            self._train(loop, final, interrupt)
        else:
            with self.cache.claim(key, lambda: interrupt.asked):
                if stored := self.cache.load(key, phase):
                    for row in stored["rows"]:
                        self.folder.metric(row)
                    for text in stored["warnings"]:
                        self.warn(text)
                    phase_cache.take_over(self.at, stored)
                    self.progress.say(
                        f"{phase.name}: {self.at.epoch} epochs taken from the phase cache, "
                        f"{stored['wall_s']:.0f} s saved"
                    )
                    summary["shared"] = {"key": key, "saved_s": stored["wall_s"]}
                else:
                    before = self.at.train_s, self.at.images
                    self._train(loop, final, interrupt)
                    took = round(self.wall_s() - self.at.phase_began, 3)
                    self.cache.save(
                        key,
                        phase,
                        phase_cache.outcome(phase, self.at, self.folder.metrics(), before, took),
                    )
        summary |= {"plan": self.at.plan} if phase.batching.choices else {}
        summary |= {
            **self.at.stopped,
            "epochs": self.at.epoch,
            "wall_s": round(self.wall_s() - self.at.phase_began, 3),
        }
        if not final:
            summary["metrics"] = self.ranks.share(lambda: self._test(phase))
            if summary["metrics"]:
                self.progress.say(
                    f"{phase.name}{' done' if loop.epochs else ', as given'}: "
                    f"{_short(summary['metrics'])}"
                )
        self.at.phases.append(summary)
        self.at.phase, self.at.epoch, self.at.step = self.at.phase + 1, 0, 0
        if final and self.at.best_epoch is None:
            if self.selection != "last":
                self.warn(
                    f"selection={self.selection} was undefined after every epoch of {phase.name}: "
                    "the last epoch is taken."
                )
            self._keep_best()
        self.save(None)

    def _train(self, loop: PhaseLoop, final: bool, interrupt: Interrupt) -> None:
        at, phase = self.at, loop.phase
        at.stopped = {}
        with self.progress.phase(
            phase.name, loop.epochs, loop.steps, at.epoch * loop.steps + at.step
        ) as bar:
            while at.epoch < loop.epochs:
                if not at.step and loop.stopping and loop.stopping.over:
                    break
                if at.epoch and not at.step and (rested := loop.rested()):
                    self.warn(
                        f"{phase.name} ended after epoch {at.epoch}: {rested} rested for a whole "
                        "epoch (its gate was shut)."
                    )
                    break
                self._epoch(loop, final, interrupt, bar.advance)
        at.stopped = loop.end()
        self._fit(loop, final)
        if found := at.stopped.get("early_stopping"):
            self.progress.say(
                f"{phase.name} goes back to epoch {found['epoch']}: {found['split']} accuracy "
                f"{found['accuracy']:.4f}"
            )

    def _fit(self, loop: PhaseLoop, final: bool) -> None:
        """What a phase computes in one go, scored as an epoch is."""
        phase = loop.phase
        if not phase.hooks.fit:
            return
        began, before = time.perf_counter(), self.at.train_s
        said = loop.fit()
        self.device.synchronize()
        self.at.train_s += time.perf_counter() - began
        self.at.images += sum(len(self.splits[name]) for name in phase.reads.values())
        for text in said:
            self.warn(text)
        scores = self.ranks.share(lambda: self._evaluate(phase, self.at.epoch * loop.steps))
        if final:
            self._select(scores)
        shown = rules.shown(scores, self.selection)
        self.progress.say(
            "  ".join(
                [
                    f"{phase.name}, {self.at.train_s - before:.1f} s",
                    *(f"{name} {value:.4f}" for name, value in shown.items()),
                ]
            )
        )

    # ---- phases shared between runs

    def _key(self, phase: Phase) -> str | None:
        """The name of a phase that is about to start in the cache, or None where it is this run's
        alone."""
        final = phase is self.phases[-1]
        if (
            self.cache is None
            or phase.shared is None
            or phase.hooks.begin
            or (final and self.selection != "last")
        ):
            return None
        splits = {
            name: split
            for name, split in self.splits.items()
            if name != "target_labelled" or name in phase.reads.values()
        }
        options = {
            "limit": self.config["train"]["limit"],
            "augment": repr(self.augment),
            "oracle": self.selection == "oracle",
        }
        return phase_cache.key(
            self.method, phase, self.loops.seed_of(phase), splits, self.device, options
        )

    def _epoch(
        self, loop: PhaseLoop, final: bool, interrupt: Interrupt, advance: Callable[[], None]
    ) -> None:
        at, phase = self.at, loop.phase
        if at.step == 0:
            loop.begin_epoch(at.epoch)
        else:  # resumed inside an epoch: its order again, its sums as they stood
            loop.batches.begin_epoch(at.epoch)
        started, first = time.perf_counter(), at.step

        def after_step(done: int) -> bool:
            at.step = done
            advance()
            return done % self.ranks.every == 0 and self.ranks.any(interrupt.asked)

        finished = loop.run_epoch(at.epoch, first, after_step)
        self.device.synchronize()
        at.train_s += time.perf_counter() - started
        at.images += (at.step - first) * loop.batches.images * self.ranks.world
        if not finished and at.step < loop.steps:
            self.save(loop)
            raise Interrupted
        self.ranks.average(loop.statistics())
        means = self._finite(loop)
        at.epoch, at.step = at.epoch + 1, 0
        count = at.epoch * loop.steps
        self._record(phase, count, "+".join(phase.reads.values()), means | loop.rates())
        with loop.as_predicted():
            scores = self.ranks.share(lambda: self._evaluate(phase, count))
            if final:
                self._select(scores)
            if loop.stopping:
                loop.stopping.see(at.epoch, scores[loop.stopping.split])
        if said := phase.diagnose(means):
            self.warn(f"{phase.name}, epoch {at.epoch}: {said}")
        printed = (
            {name: value for name, value in means.items() if not name.startswith(phase.not_printed)}
            if phase.not_printed
            else means
        )
        self.progress.epoch(
            phase.name, at.epoch, loop.epochs, {**printed, **rules.shown(scores, self.selection)}
        )
        self.save(loop)
        if self.ranks.any(interrupt.asked):
            raise Interrupted

    def _finite(self, loop: PhaseLoop) -> dict[str, float]:
        means = self.ranks.means(loop.meter.means())
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(
                f"{loop.phase.name}, epoch {self.at.epoch + 1}: the loss {bad[0]} became "
                f"{means[bad[0]]}. {self.method.if_diverged}"
            )
        return means

    # ---- evaluation and selection

    def _evaluate(self, phase: Phase, count: int) -> dict[str, float]:
        """What each selection rule goes by, after an epoch; all of it is recorded, whichever rule
        decides."""
        found = self.evaluator.after_epoch(phase)
        for split, metrics in found.items():
            self._record(phase, count, split, metrics)
        # shown; no rule goes by it
        errors = (
            {"meta_val mse": found["meta_val"]["mse"]} if "mse" in found.get("meta_val", {}) else {}
        )
        return rules.scores(found) | errors

    def _select(self, scores: Mapping[str, float]) -> None:
        if scores.get(self.selection, -math.inf) > self.at.best_score:
            self.at.best_score, self.at.best_epoch = scores[self.selection], self.at.epoch
            self._keep_best()

    def _keep_best(self) -> None:
        self._write(
            self.folder.best,
            {
                "method": checkpoints.weights_of(self.method, self.method.scaffold),
                "selection": self.selection,
            },
        )

    def load_best(self) -> None:
        """Put the weights that the selection rule chose into the method."""
        if self.selection != "last":
            best = checkpoints.load(self.folder.best, self.config)
            checkpoints.put_back(self.method, best["method"], self.method.scaffold)
            self.device.place(self.method)

    def _test(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics by split of what a phase other than the last one made."""
        found = self.evaluator.after_phase(phase)
        for split, metrics in found.items():
            if split != "source_val":
                self._record(phase, None, split, metrics)
        if phase is self.phases[0]:
            embeddings.keep(self.folder, "before", self.evaluator.embeddings(phase))
        return found

    def final(self) -> tuple[dict[str, Report], dict[str, np.ndarray]]:
        """The selected weights on every split: (reports by split, predictions)."""
        phase, epoch = (
            self.phases[-1],
            self.at.best_epoch or self.stopped_at() or self.at.phases[-1]["epochs"],
        )
        reports, predictions = self.evaluator.at_the_end(phase)
        for split, found in reports.items():
            self.folder.metric(
                {
                    "phase": phase.name,
                    "epoch": epoch,
                    "selected": True,
                    "split": split,
                    **found["metrics"],
                }
            )
        embeddings.keep(self.folder, "after", self.evaluator.embeddings(phase))
        return reports, predictions

    def stopped_at(self) -> int | None:
        """The epoch that early stopping took the last phase back to."""
        return self.at.phases[-1].get("early_stopping", {}).get("epoch")

    def _record(
        self, phase: Phase, count: int | None, split: str, metrics: Mapping[str, float]
    ) -> None:
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

    def warn(self, text: str) -> None:
        """Tell the user and the record, once."""
        if text not in self.at.warnings:
            self.at.warnings.append(text)
            self.progress.warn(text)


def _short(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The first metric of each split."""
    return ", ".join(
        f"{split} {name} {value:.4f}"
        for split, values in metrics.items()
        for name, value in [*values.items()][:1]
    )
