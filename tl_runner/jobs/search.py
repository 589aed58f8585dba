"""A search: Optuna asks for trials over a declared space, a launcher runs them, a label-free score
judges them.

TPE: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
"""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from math import ceil, floor
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)

from tl_runner.config.compose import Job, Plan, make
from tl_runner.config.overrides import text_of
from tl_runner.errors import ConfigError, UserError, nearest
from tl_runner.jobs.launch import launch
from tl_runner.jobs.sweep_file import record
from tl_runner.record.run_folder import state

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def described(plan: Plan) -> str:
    """What a search explores, a line a key."""
    start = _values(plan.jobs[0], plan.space)
    lines = [
        f"  {key}: {space.get_value_string()}, starting from {start[key]}"
        for key, space in plan.space.items()
    ]
    return "\n".join([f"{plan.search['trials']} trials, {plan.search['objective']}, over", *lines])


def run_search(plan: Plan, folder: Path) -> list[Job]:
    """:func:`explore`, with the complaints of a storage that cannot be read made ours."""
    try:
        return explore(plan, folder)
    except UserError:
        raise
    except (ValueError, AssertionError, KeyError, OSError) as error:
        where = plan.search["storage"] or folder / "optuna.journal"
        cure = (
            "Choose another sweep.storage."
            if plan.search["storage"]
            else "Delete it and resume: finished runs are not repeated."
        )
        raise ConfigError(
            [f"{where} cannot be used ({type(error).__name__}: {error}). {cure}"]
        ) from error


def explore(plan: Plan, folder: Path) -> list[Job]:
    """Ask, run and tell until the study has its trials. Every job there was.

    A trial with a run that fails counts as failed, and the search goes on; one that was cut off is
    finished first.

    Raises:
        KeyboardInterrupt: a run was interrupted; its trial is left open.
        ConfigError: Optuna is missing, or the objective is no metric of the runs.
    """
    study, space = open_study(plan, folder), distributions(plan)
    start = _values(plan.jobs[0], plan.space)
    if not study.trials:
        outside = [k for k, d in space.items() if not _holds(d, start[k])]
        if outside:
            print(
                f"tl-run: {', '.join(outside)}: the config's value is none that is searched, so "
                "the first trial is drawn.",
                file=sys.stderr,
            )
        else:
            study.enqueue_trial(start)
    first, plan.jobs = plan.jobs, []
    for trial in study.trials:
        if trial.state.is_finished():
            plan.jobs += jobs_of(plan, trial, len(first))
    while open_trials := _open(study, space, plan.search):
        batch = [(trial, jobs_of(plan, trial, len(first))) for trial in open_trials]
        new = [job for _, jobs in batch for job in jobs]
        plan.jobs += new
        record(plan, folder, plan.jobs)
        launch(plan, folder, new)
        for trial, jobs in batch:
            tell(study, trial, plan.search["objective"], [folder / job.name for job in jobs])
    print(summary(study, plan), file=sys.stderr)
    return plan.jobs


def open_study(plan: Plan, folder: Path) -> Study:
    """The study of a sweep, from its storage.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ConfigError(
            [f"sweep=tpe needs Optuna ({error}): pip install 'tl-run[sweep]'."]
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address, direction = plan.search["storage"], plan.search["direction"]
    storage: Any = address or JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    # a journal is this sweep's alone and may move with it; a data base may hold the studies of
    # others
    name = str(folder) if address else "tl-run"
    return optuna.create_study(
        storage=storage, study_name=name, direction=direction, load_if_exists=True
    )


def _open(
    study: Study, space: Mapping[str, BaseDistribution], options: Mapping[str, Any]
) -> list[FrozenTrial]:
    """The trials that were cut off, else new ones, as many as are still wanted."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    cut_off = [t for t in study.trials if t.state.name == "RUNNING"]
    for trial in cut_off:
        if trial.params.keys() != space.keys():  # killed between asking and being told
            study.tell(trial.number, state=TrialState.FAIL)
    if whole := [t for t in cut_off if t.params.keys() == space.keys()]:
        return whole
    left = options["trials"] - sum(
        t.state.is_finished() and t.params.keys() == space.keys() for t in study.trials
    )
    for _ in range(min(left, options["at_once"])):
        number = sum(t.state.name != "WAITING" for t in study.trials)
        # seeded by the trial's number, so that a search that was cut off asks the same as one that
        # was not
        study.sampler = TPESampler(
            seed=number, n_startup_trials=options["random"], constant_liar=options["at_once"] > 1
        )
        with warnings.catch_warnings():
            # constant_liar is marked experimental; a start outside of the interval is the user's
            # choice
            warnings.simplefilter("ignore")
            study.ask(dict(space))
    return [t for t in study.trials if t.state.name == "RUNNING"]


def distributions(plan: Plan) -> dict[str, BaseDistribution]:
    """What a search explores, in Optuna's words; a key whose value is a whole number stays one."""
    start = _values(plan.jobs[0], plan.space)
    return {key: distribution(space, type(start[key]) is int) for key, space in plan.space.items()}


def distribution(space: Override, whole: bool) -> BaseDistribution:
    """Optuna's word for a sweep of Hydra's grammar."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = space.value()
    if isinstance(value, IntervalSweep):
        low: Any = value.start
        high: Any = value.end
        if whole:
            return IntDistribution(ceil(low), floor(high), log="log" in value.tags)
        return FloatDistribution(low, high, log="log" in value.tags)
    if isinstance(value, RangeSweep):
        values: list[Any] = list(value.range())
        return CategoricalDistribution(values)
    assert isinstance(value, ChoiceSweep), value
    return CategoricalDistribution([_plain(v) for v in value.list])


def _holds(space: BaseDistribution, start: Any) -> bool:
    """Whether a search may begin with a value: one of its choices, or any number for an
    interval."""
    choices = getattr(space, "choices", None)
    if choices is not None:
        return start in choices
    return isinstance(start, int | float) and not isinstance(start, bool)


def jobs_of(plan: Plan, trial: FrozenTrial, seeds: int) -> list[Job]:
    """A trial's runs, one a seed, numbered behind those of the trials before it."""
    plain = [o for o in plan.overrides if o.split("=")[0] not in trial.params]
    chosen = [f"{key}={text_of(value)}" for key, value in trial.params.items()]
    return make(
        [*plain, *chosen],
        sweep=True,
        config_dir=plan.config_dir,
        first=trial.number * seeds,
        came_from=plan.came_from,
        command=plan.command,
    ).jobs


def tell(study: Study, trial: FrozenTrial, objective: str, folders: Sequence[Path]) -> None:
    """Give a trial the mean of its runs' objective, or let it fail as one of them did."""
    from optuna.trial import TrialState

    states = [state(f) for f in folders]
    if not {"done", "failed"}.issuperset(states):
        raise KeyboardInterrupt
    results = (
        []
        if "failed" in states
        else [json.loads((f / "result.json").read_text(encoding="utf-8")) for f in folders]
    )
    scores = [score(result, objective) for result in results]
    values = [value for value in scores if value is not None]
    if results and len(values) == len(results):
        study.tell(trial.number, fmean(values))
    else:
        study.tell(trial.number, state=TrialState.FAIL)


def score(result: Mapping[str, Any], objective: str) -> float | None:
    """The number at ``split.metric`` of a result; None where it is undefined.

    Raises:
        ConfigError: there is no such metric.
    """
    known = {
        f"{split}.{name}": value
        for split, values in result["metrics"].items()
        for name, value in values.items()
    }
    if objective not in known:
        raise ConfigError(
            [
                f"sweep.objective={objective}: these runs have no such "
                f"metric.{nearest(objective, known)} There are {', '.join(known)}."
            ]
        )
    return known[objective]


def summary(study: Study, plan: Plan) -> str:
    """The best trial beside the first, and how to run it again."""
    finished = [t for t in study.trials if t.state.name == "COMPLETE"]
    failed = sum(t.state.name == "FAIL" for t in study.trials)
    objective = plan.search["objective"]
    head = f"\n{len(finished)} trials, {failed} more failed; judged by {objective}"
    if objective.startswith(("target_test", "target_labelled", "meta_test")):
        head += "   oracle: chosen by target labels"
    if not finished:
        return head
    best, start = study.best_trial, next((t for t in finished if t.number == 0), None)
    kept = [
        o
        for o in plan.overrides
        if not o.startswith(("sweep", "hydra", "seed=")) and o.split("=")[0] not in best.params
    ]
    words = shlex.join([*kept, *(f"{key}={text_of(value)}" for key, value in best.params.items())])
    began = f", the start's {start.value:.4f}" if start else ""
    return (
        f"{head}\nbest is trial {best.number}: {best.value:.4f}{began}\n  tl-run -m "
        f"sweep=seeds {words}"
    )


def _values(job: Job, keys: Iterable[str]) -> dict[str, Any]:
    """What a job's config has at dotted keys."""
    return {
        key: reduce(lambda section, part: section[part], key.split("."), job.config) for key in keys
    }


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
