"""What a command comes to: its jobs, each composed, checked and given a folder; or what a search
explores."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from tl_runner import plugins
from tl_runner.config.checker import Checker, nearest_key, parse, plain, walk
from tl_runner.config.conflicts_of_teachers import place
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import ConfigError, nearest
from tl_runner.metrics.direction import (
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    is_known,
    lower_is_better,
)

# of a search, as in conf/sweep/tpe.yaml
SETTINGS = ("trials", "objective", "direction", "random", "at_once", "storage")


@dataclass
class Job:
    """One run of the command.

    Attributes:
        overrides: its own, as typed, sweep values chosen.
        config: fully resolved, plain dicts.
        choices: the option of every config group.
        folder: where Hydra will put it.
        name: the same, seen from the sweep's folder.
    """

    overrides: list[str]
    config: dict[str, Any]
    choices: dict[str, str]
    folder: Path
    name: str


@dataclass
class Plan:
    """What a command comes to.

    Attributes:
        overrides: the command's own, as typed.
        config_dir: of ``--config-dir``, or None.
        jobs: its runs, in order; of a search, those of its first trial.
        folder: of the sweep.
        space: what a search explores, by key; empty for a sweep over a grid.
        search: the settings of that search.
        whole: the overrides that a sweep as a whole is composed of.
        came_from: the folder that the command was read from, where it is resumed: no code in it is
            run.
    """

    overrides: list[str]
    config_dir: str | None
    jobs: list[Job]
    folder: Path
    space: dict[str, Override] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    came_from: Path | None = None


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
) -> Plan:
    """A command's jobs, checked; ``first`` is the number of the first one, ``came_from`` the folder
    that it was read from.

    Raises:
        ConfigError: with every problem of every job.
        CheckpointError: a job names code in the folder that the command came from.
    """
    with composer(config_dir) as hydra:
        checker = Checker()
        parsed = parse(overrides)
        wrong = checker.names(parsed, sweep)
        # what is wrong elsewhere is shown as well
        fine = [o for o in parsed if o.input_line not in wrong]
        made = Plan(list(overrides), config_dir, [], Path(), came_from=came_from)
        problems = list(wrong.values())
        if sweep:
            made.whole = of_the_sweep(fine, checker.groups)
            whole = hydra.compose_config("config", made.whole, RunMode.MULTIRUN)
            problems += searched(made, whole, fine)
            preset = [
                f"{key}={value}" for key, value in (whole.hydra.sweeper.get("params") or {}).items()
            ]
            grid = [
                o
                for o in (*parse(preset), *fine)
                if place(o) not in made.space or not o.is_sweep_override()
            ]
            split = BasicSweeper.split_arguments(grid, None)[0]
            made.folder = Path(_asked(whole, lambda: whole.hydra.sweep.dir))
        else:
            split = [[str(o.input_line) for o in fine]]
        for number, job in enumerate(split):
            found, built = checker.job(job)
            problems += found
            if built and came_from:
                plugins.refuse_code_of(came_from, built[0])
            if built and not wrong:
                folder = folder_of(job, first + number, sweep)
                name = os.path.relpath(folder, made.folder) if sweep else folder.name
                if name.split(os.sep)[0] == os.pardir:
                    problems.append(
                        f"hydra.sweep.subdir: {folder} does not lie in the sweep's folder "
                        f"{made.folder}."
                    )
                else:
                    made.jobs.append(Job(list(job), *built, folder, name))
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return made


@contextmanager
def composer(config_dir: str | None) -> Iterator[Hydra]:
    """Hydra over the shipped configs and the user's own, to compose with."""
    nameless = "TL_RUN_ID" not in os.environ
    # the front end gives every command its own; folders are named by it
    os.environ.setdefault("TL_RUN_ID", "unnamed")
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="tl-run"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            if config_dir:
                path = hydra.config_loader.get_search_path()
                path.prepend(
                    "command-line", f"file://{Path(config_dir).resolve()}", anchor="schema"
                )
                hydra.config_loader = ConfigLoaderImpl(path)
            yield hydra
    finally:
        if nameless:
            del os.environ["TL_RUN_ID"]


def searched(made: Plan, whole: DictConfig, overrides: Sequence[Override]) -> list[str]:
    """Fill in what a search explores: the method's own ``search`` and whatever interval or choice
    the command gives."""
    options = plain(OmegaConf.create({"sweep": whole.get("sweep")}))["sweep"]
    if not options:
        intervals = [o for o in overrides if o.is_sweep_override() and not o.is_discrete_sweep()]
        made.space = {place(o): o for o in intervals}
        return [f"{o.input_line}: an interval is for a search. Add sweep=tpe." for o in intervals]
    lines = whole.method.get("search") or []
    if (not OmegaConf.is_list(lines) and lines) or not all(isinstance(line, str) for line in lines):
        return ["method.search should be a list of lines such as 'KEY=interval(LOW, HIGH)'."]
    declared = parse([f"method.{line}" for line in lines])
    swept = [o for o in overrides if o.is_sweep_override() and o.key_or_group != "seed"]
    made.search, made.space = options, {place(o): o for o in (*declared, *swept)}
    groups = {place(o): o.input_line for o in swept if place(o) in whole.hydra.runtime.choices}
    problems = [
        f"{line}: a search runs within one choice of every group. Start one for each."
        for line in groups.values()
    ]
    problems += [
        said
        for key, space in made.space.items()
        if key not in groups and (said := _unsearchable(whole, key, space))
    ]
    if missing := [key for key in SETTINGS if key not in options]:
        problems.append(
            f"sweep={whole.hydra.runtime.choices.sweep}: a search has to set "
            f"{', '.join(missing)}. Start from the preset tpe."
        )
    if not made.space:
        problems.append(
            "sweep=tpe: this method declares no search. Give what to explore: 'KEY=interval(LOW, "
            "HIGH)'."
        )
    return problems if missing else [*problems, *_judged(options, whole.data)]


def _judged(options: dict[str, Any], data: DictConfig) -> list[str]:
    """Fill in what trials are judged by, where a search does not say."""
    if options["objective"] is None:
        of_tasks = "mse" if "ways" not in data else "accuracy"
        options["objective"] = (
            f"meta_val.{of_tasks}" if "episodes" in data.get("gives", ()) else "target_train.im"
        )
    split, _, metric = options["objective"].rpartition(".")
    if not is_known(metric):
        known = [f"{split}.{name}" for name in sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER)]
        return [
            f"sweep.objective={options['objective']}: no such "
            f"metric.{nearest(options['objective'], known)}"
        ]
    wanted = "minimize" if lower_is_better(metric) else "maximize"
    if options["direction"] is None:
        options["direction"] = wanted
    if (options["direction"], wanted) == ("maximize", "minimize"):
        return [f"sweep.direction=maximize: of {options['objective']} less is better."]
    return []


def _unsearchable(whole: DictConfig, key: str, space: Override) -> str | None:
    """Why a key cannot be explored so, or None."""
    known = {path: value for path, value in walk(plain(whole)) if not path.startswith("hydra")}
    if key not in known:
        return f"{key}: no such key to search over.{nearest_key(key, known)}"
    if isinstance(known[key], dict):
        return f"{key}: a search is over single values, and this is a group of them."
    if not space.is_sweep_override():
        return (
            f"{space.input_line}: give a search something to choose from: {key}=interval(LOW, "
            "HIGH) or choice(A, B)."
        )
    value: Any = space.value()
    if isinstance(value, IntervalSweep) and not value.start < value.end:  # type: ignore[operator]
        return f"{space.input_line}: the interval's lower end comes first."
    if isinstance(value, IntervalSweep) and "log" in value.tags and value.start <= 0:  # type: ignore[operator]
        return f"{space.input_line}: a logarithm needs an interval above 0."
    return None


def of_the_sweep(overrides: Sequence[Override], groups: Container[str]) -> list[str]:
    """The overrides that the sweep as a whole is composed of: where a group is swept, without keys
    that one of its choices may lack."""
    several = any(o.key_or_group in groups and o.is_sweep_override() for o in overrides)
    kept = [
        o
        for o in overrides
        if not several or o.key_or_group in groups or o.key_or_group.startswith(("hydra", "sweep."))
    ]
    return [str(o.input_line) for o in kept]


def folder_of(overrides: Sequence[str], number: int, sweep: bool) -> Path:
    """Where a job goes; Hydra's own keys are composed, and so checked, on the way."""
    config = compose("config", list(overrides), return_hydra_config=True)
    with open_dict(config):
        config.hydra.job.num = number
    return _asked(
        config,
        lambda: (
            Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
            if sweep
            else Path(config.hydra.run.dir)
        ),
    )


def _asked(config: DictConfig, question: Callable[[], Any]) -> Any:
    """An answer that resolves ``${hydra:...}``, which needs ``config`` to be Hydra's current
    one."""
    HydraConfig.instance().set_config(config)
    try:
        return question()
    finally:
        HydraConfig.instance().cfg = None


def taken(folder: Path) -> bool:
    """Whether a folder holds the record of a run or a sweep, which nothing may write over."""
    return any((folder / name).exists() for name in ("metrics.jsonl", "result.json", "sweep.json"))
