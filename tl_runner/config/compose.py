"""What a command comes to: its jobs, each composed, checked and given a folder; or what a search
explores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from tl_runner import plugins
from tl_runner.config.bases import Composed
from tl_runner.config.checker import Checker, IdleKeys
from tl_runner.config.loader import composer
from tl_runner.config.overrides import parse, place
from tl_runner.config.search_space import Search, of_the_sweep, searched
from tl_runner.errors import ConfigError


@dataclass
class Job:
    """One run: what was asked for, where it goes and how it is to run.

    Attributes:
        overrides: its own, as typed, sweep values chosen.
        config: fully resolved, plain dicts: what was checked, and what runs.
        choices: the option of every config group.
        folder: where Hydra will put it.
        name: the same, seen from the sweep's folder.
        command: as typed, for the record.
        hydra: of a single run the same config as Hydra's object, with its own section.
        resume: go on from the folder's checkpoint, if there is one.
        sweep: one of several runs, which share phases unless told otherwise.
        quiet: keep to the log file.
    """

    overrides: list[str]
    config: dict[str, Any]
    choices: dict[str, str]
    folder: Path
    name: str
    command: Sequence[str] = ()
    hydra: DictConfig | None = None
    resume: bool = False
    sweep: bool = False
    quiet: bool = False


@dataclass
class Plan:
    """What a command comes to.

    Attributes:
        overrides: the command's own, as typed.
        config_dir: of ``--config-dir``, or None.
        command: the whole line, as typed.
        jobs: its runs, in order; of a search, those of its first trial.
        folder: of the sweep.
        space: what a search explores, by key; empty for a sweep over a grid.
        search: the settings of that search.
        whole: the config of a sweep as a whole, for its launcher.
        came_from: the folder that the command was read from, where it is resumed: no code in it is
            run.
    """

    overrides: list[str]
    config_dir: str | None
    jobs: list[Job]
    folder: Path
    space: dict[str, Override] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    whole: DictConfig | None = None
    came_from: Path | None = None
    command: Sequence[str] = ()


def check(overrides: Sequence[str], *, sweep: bool, config_dir: str | None = None) -> list[Job]:
    """The jobs of a command. Raises as :func:`make` does."""
    return make(overrides, sweep=sweep, config_dir=config_dir).jobs


def make(
    overrides: Sequence[str],
    *,
    sweep: bool,
    config_dir: str | None = None,
    first: int = 0,
    came_from: Path | None = None,
    command: Sequence[str] = (),
) -> Plan:
    """A command's jobs, checked.

    Args:
        overrides: of the command.
        sweep: whether it is one.
        config_dir: the user's own configs.
        first: the number of the first job.
        came_from: the folder that the command was read from.
        command: the whole line, as typed, for the record.

    Raises:
        ConfigError: with every problem of every job.
        CheckpointError: a job names code in the folder that the command came from.
    """
    with composer(config_dir) as hydra:
        checker = Checker(hydra)
        parsed = parse(overrides)
        wrong = checker.names(parsed, sweep)
        # what is wrong elsewhere is shown as well
        fine = [o for o in parsed if o.input_line not in wrong]
        made = Plan(list(overrides), config_dir, [], Path(), came_from=came_from, command=command)
        problems = list(wrong.values())
        split = [[str(o.input_line) for o in fine]]
        if sweep:
            made.whole = hydra.compose_config(
                "config", of_the_sweep(fine, checker.groups), RunMode.MULTIRUN
            )
            made.folder = Path(_asked(made.whole, lambda config: config.hydra.sweep.dir))
            search = searched(made.whole, fine)
            made.space, made.search = search.space, search.options
            problems += search.problems
            split = grid(made.whole, fine, search)
        idle = IdleKeys(fine, checker.groups)
        for number, job in enumerate(split):
            found, composed = checker.job(job)
            problems += found
            if composed and not made.search:  # of a search only the first trial is known
                idle.see(composed)
            if composed and came_from:
                plugins.refuse_code_of(came_from, composed.config)
            if composed and not wrong:
                placed = _job(job, composed, first + number, made, sweep)
                if placed.name.split(os.sep)[0] == os.pardir:
                    problems.append(
                        f"hydra.sweep.subdir: {placed.folder} does not lie in the sweep's folder "
                        f"{made.folder}."
                    )
                made.jobs.append(placed)
        problems += idle.problems()
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return made


def grid(whole: DictConfig, overrides: Sequence[Override], search: Search) -> list[list[str]]:
    """The overrides of each job of a sweep: every combination of what the preset and the command
    give several values."""
    params = whole.hydra.sweeper.get("params") or {}
    preset = parse([f"{key}={value}" for key, value in params.items()])
    kept = [
        o
        for o in (*preset, *overrides)
        if place(o) not in search.space or not o.is_sweep_override()
    ]
    jobs: list[list[str]] = BasicSweeper.split_arguments(kept, None)[0]
    return [list(job) for job in jobs]


def _job(overrides: list[str], composed: Composed, number: int, plan: Plan, sweep: bool) -> Job:
    """A job with its folder, in that of its sweep, if it is one of several."""
    config, hydra = composed.hydra, None
    if sweep:
        with open_dict(config):
            config.hydra.job.num = number
        folder = _asked(
            config, lambda config: Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
        )
        name = os.path.relpath(folder, plan.folder)
    else:
        hydra = config
        hydra.hydra.mode = RunMode.RUN
        hydra.hydra.overrides.hydra.append("hydra.mode=RUN")  # as Hydra's own front end does
        folder = Path(_asked(hydra, lambda config: config.hydra.run.dir))
        name = folder.name
    return Job(
        overrides,
        composed.config,
        composed.choices,
        folder,
        name,
        plan.command,
        hydra,
        resume=sweep,
        sweep=sweep,
    )


def _asked(config: DictConfig, question: Callable[[DictConfig], Any]) -> Any:
    """An answer that resolves ``${hydra:...}``, which needs ``config`` to be Hydra's current
    one."""
    HydraConfig.instance().set_config(config)
    try:
        return question(config)
    finally:
        HydraConfig.instance().cfg = None


def taken(folder: Path) -> bool:
    """Whether a folder holds the record of a run or a sweep, which nothing may write over."""
    return any((folder / name).exists() for name in ("metrics.jsonl", "result.json", "sweep.json"))
