"""What each combination of group choices composes to, once, and the jobs made of it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tl_runner.config.conflicts_of_teachers import TEACHER, used
from tl_runner.config.idle_keys import (
    REFERRED,
    Condition,
    effective,
    idle_sections,
    read_only_with,
    unread,
)
from tl_runner.config.loader import NOTES, PRESETS, Loader, Notes
from tl_runner.config.overrides import at, place, plain, values_of, walk, word
from tl_runner.config.shared_values import read_allowed, rules_of
from tl_runner.config.values import Rule


@dataclass
class Base:
    """What one combination of group choices composes to, before a command's keys.

    Attributes:
        config: as Hydra composed it, with its own section.
        own: the same as unresolved dicts, without that section.
        bare: the same without presets.
        choices: the option of every config group.
        notes: what the YAMLs say about their own keys.
        rules: what values may be, by dotted path.
        conditions: what makes some keys count.
        problems: what is wrong with the YAMLs themselves.
    """

    config: DictConfig
    own: dict[str, Any]
    bare: dict[str, Any]
    choices: dict[str, str]
    notes: Notes
    rules: dict[str, Rule]
    conditions: list[Condition]
    problems: list[str]

    @cached_property
    def known(self) -> dict[str, Any]:
        """The default of every key, unresolved, by dotted path."""
        return dict(walk(self.bare))

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The same, resolved."""
        return dict(walk(plain(OmegaConf.create(self.bare), resolve=True)))

    @property
    def preset(self) -> str:
        """The file that is likeliest to hold a wrong key which the command does not."""
        chosen = (g for g in ("experiment", "sweep", "debug", "local") if self.choices.get(g))
        return next((f"{group}/{self.choices[group]}.yaml" for group in chosen), "a preset")


@dataclass
class Composed:
    """One job, checked.

    Attributes:
        hydra: the object that runs, with Hydra's own section.
        config: its content, resolved.
        base: what it was made of.
        parsed: its overrides.
    """

    hydra: DictConfig
    config: dict[str, Any]
    base: Base
    parsed: Sequence[Override]

    @property
    def choices(self) -> dict[str, str]:
        """The option of every config group."""
        return self.base.choices

    def idle(self, override: Override) -> str | None:
        """Why this run does not read what an override of its command sets; empty where it does, or
        may; None where it says nothing, the value being the one without it."""
        key = place(override)
        if key == TEACHER:
            return idle_sections(self.config, self.base.conditions).get("teacher", "")
        message = unread(key, self.base.own, self.config, self.base.conditions)
        if not message:
            return ""
        others = [o for o in self.parsed if place(o) != key]
        try:
            without = plain(with_keys(self.base, others), resolve=True)
            same = at(without, key) == at(self.config, key)
        except (OmegaConfBaseException, LookupError):  # it cannot be left out
            return ""
        if same:
            return None
        before, now = (effective(c, self.base.conditions) for c in (used(without), self.config))
        return message if before == now or not key.startswith(REFERRED) else ""


class Bases:
    """Composes each combination of choices once.

    Attributes:
        groups: the choices of every config group.
    """

    def __init__(self, hydra: Hydra) -> None:
        assert isinstance(hydra.config_loader, Loader)
        self.loader = hydra.config_loader
        self._made: dict[tuple[str, ...], Base] = {}
        files = self.loader.repository  # the loader's own list would read them anew for each group
        self.groups = {
            g: [o for o in files.get_group_options(g, ObjectType.CONFIG) if not o.startswith("_")]
            for g in files.get_group_options("", ObjectType.GROUP)
        }

    @property
    def roots(self) -> list[Path]:
        """The folders of config groups on the disk, the user's own first."""
        paths = (element.path for element in self.loader.get_search_path().get_path())
        places = (Path(path.removeprefix("file://")) for path in paths)
        return [place for place in places if place.is_absolute() and place.is_dir()]

    def choices_of(self, parsed: Sequence[Override]) -> list[str]:
        """What a composition depends on: the choices that there are, of a sweep the first ones, and
        Hydra's own."""
        found = {}
        for o in parsed:
            if o.key_or_group.startswith("hydra/") or o.key_or_group == "hydra.searchpath":
                if not o.is_sweep_override() and o.key_or_group != "hydra/sweeper":
                    found[place(o)] = str(o.input_line)
            elif o.key_or_group in self.groups and place(o) in (o.key_or_group, TEACHER):
                choice = values_of(o)[0]
                if str(choice) in self.groups[o.key_or_group]:
                    found[place(o)] = f"{place(o)}={word(choice)}"
        return [*found.values()]

    def of(self, choices: Sequence[str]) -> Base:
        """What group choices alone compose to."""
        key = tuple(choices)
        if key not in self._made:
            config = self.loader.load_configuration(
                "config", list(choices), RunMode.RUN, from_shell=False
            )
            chosen = dict(config.hydra.runtime.choices)
            self._made[key] = Base(
                config,
                plain(config),
                self.loader.bare,
                chosen,
                self.loader.notes,
                *self._notes(chosen),
            )
        return self._made[key]

    def _notes(self, chosen: dict[str, str]) -> tuple[dict[str, Rule], list[Condition], list[str]]:
        """What the YAMLs of the last composition say about their keys, and what is wrong there."""
        bare, notes = self.loader.bare, self.loader.notes
        known = dict(walk(bare))
        problems = [
            f"{path}, set by a preset: what keys may be stands in their own YAML."
            for path in self.loader.preset_notes
        ]
        allowed, conditions = {}, list[Condition]()
        for section, given in notes["allowed"].items():
            keys, file = dict(walk(at(bare, section))), _file(section, chosen)
            allowed[section], wrong = read_allowed(section, given, keys, file)
            problems += wrong
        for section, given in notes["only_with"].items():
            found, wrong = read_only_with(section, given, known, _file(section, chosen))
            conditions += found
            problems += wrong
        return rules_of(bare, allowed), conditions, problems

    def having(self, key: str) -> list[str]:
        """A few choices of the group that a key would be of and that have it."""
        group = {"teacher": TEACHER}.get(key.split(".")[0], key.split(".")[0])
        choices = () if group in PRESETS else self.groups.get(group.partition("@")[0], ())
        found: list[str] = []
        leaf = key.split(".")[-1]
        if not choices or {*key.split(".")} & {*NOTES} or not self._is_written(leaf):
            return found
        for choice in choices:  # each takes a composition
            if len(found) < 3 and key in self.of([f"{group}={choice}"]).known:
                found.append(choice)
        return [f"{group}={found[0]}", *found[1:]] if found else found

    def _is_written(self, word: str) -> bool:
        """Whether any config file has a key of that name."""
        folders = (s.path for s in self.loader.get_sources() if s.scheme() == "file")
        files = (file for folder in folders for file in Path(folder).rglob("*.yaml"))
        return any(
            f"{word}:" in file.read_text(encoding="utf-8", errors="replace") for file in files
        )


def _file(section: str, chosen: dict[str, str]) -> str:
    """The YAML of the choice that a section belongs to."""
    group = section.partition(".")[0]
    return (
        f"backbone/{chosen.get(TEACHER)}.yaml"
        if group == "teacher"
        else f"{group}/{chosen.get(group)}.yaml"
    )


def with_keys(base: Base, parsed: Sequence[Override]) -> DictConfig:
    """The config of a job: that of its group choices with the command's keys set, by Hydra itself,
    and its record of the command brought up to date.

    What :meth:`ConfigLoaderImpl.load_configuration` makes of the whole command, without composing
    once more; a test compares the two. Keys that do not exist are left out, but for those inside a
    group that is set as a whole, for the checks to find.

    Args:
        parsed: all overrides of the job.
    """
    config = copy.deepcopy(base.config)
    names = base.known.keys() - base.choices.keys()
    keys = [o for o in parsed if o.key_or_group in names or o.key_or_group.startswith("hydra.")]
    ours = [config._get_node(key) for key in config if key != "hydra"]
    sections = [node for node in ours if isinstance(node, DictConfig)]
    for section in sections:
        OmegaConf.set_struct(section, False)
    ConfigLoaderImpl._apply_overrides_to_config(keys, config)
    for section in sections:
        OmegaConf.set_struct(section, None)
    hydra = config.hydra
    task = [o for o in parsed if not o.is_hydra_override()]
    hydra.overrides.task = [o.input_line for o in task]
    hydra.overrides.hydra = [o.input_line for o in parsed if o.is_hydra_override()]
    with open_dict(hydra):
        for key in hydra.job.env_copy:
            hydra.job.env_set[key] = os.environ[key]
    name = hydra.job.config.override_dirname
    hydra.job.override_dirname = get_overrides_dirname(
        overrides=task,
        kv_sep=name.kv_sep,
        item_sep=name.item_sep,
        exclude_keys=name.exclude_keys,
    )
    return config
