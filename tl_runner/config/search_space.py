"""The space of a search: what the method declares, and the intervals that a command gives."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from tl_runner.config.overrides import nearest_key, parse, place, plain, walk
from tl_runner.errors import nearest
from tl_runner.metrics.direction import (
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    is_known,
    lower_is_better,
)

# of a search, as in conf/sweep/tpe.yaml
SETTINGS = ("trials", "objective", "direction", "random", "at_once", "storage")


@dataclass
class Search:
    """A search over settings, or none.

    Attributes:
        space: what it explores, by key; empty for a sweep over a grid.
        options: its settings, as in conf/sweep/tpe.yaml.
        problems: what is wrong with it.
    """

    space: dict[str, Override]
    options: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def searched(whole: DictConfig, overrides: Sequence[Override]) -> Search:
    """What the method declares and the command gives to explore.

    Args:
        whole: the config of the sweep as a whole.
        overrides: the command's, parsed.
    """
    options = plain(OmegaConf.create({"sweep": whole.get("sweep")}))["sweep"]
    if not options:
        intervals = [o for o in overrides if o.is_sweep_override() and not o.is_discrete_sweep()]
        return Search(
            {place(o): o for o in intervals},
            problems=[
                f"{o.input_line}: an interval is for a search. Add sweep=tpe." for o in intervals
            ],
        )
    lines = whole.method.get("search") or []
    if (not OmegaConf.is_list(lines) and lines) or not all(isinstance(line, str) for line in lines):
        cure = "method.search should be a list of lines such as 'KEY=interval(LOW, HIGH)'."
        return Search({}, problems=[cure])
    declared = parse([f"method.{line}" for line in lines])
    swept = [o for o in overrides if o.is_sweep_override() and o.key_or_group != "seed"]
    space = {place(o): o for o in (*declared, *swept)}
    groups = {place(o): str(o.input_line) for o in swept if place(o) in whole.hydra.runtime.choices}
    problems = [
        f"{line}: a search runs within one choice of every group. Start one for each."
        for line in groups.values()
    ]
    problems += [
        message
        for key, space in space.items()
        if key not in groups and (message := _unsearchable(whole, key, space))
    ]
    if missing := [key for key in SETTINGS if key not in options]:
        problems.append(
            f"sweep={whole.hydra.runtime.choices.sweep}: a search has to set "
            f"{', '.join(missing)}. Start from the preset tpe."
        )
    if not space:
        problems.append(
            "sweep=tpe: this method declares no search. Give what to explore: 'KEY=interval(LOW, "
            "HIGH)'."
        )
    if not missing:
        problems += _judged(options, whole.data)
    return Search(space, options, problems)


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
    logarithmic = isinstance(value, IntervalSweep) and "log" in value.tags
    if logarithmic and value.start <= 0:
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
