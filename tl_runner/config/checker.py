"""Check a whole command before anything heavy is imported: every error of every job, shown
together.

Hydra stops at its first complaint and does not look inside untyped groups, so a misspelt key in an
experiment would run without a word. Here each combination of group choices is composed once;
whatever else a command or an experiment sets must be a key of that, and a value that its rule
allows. What was checked is what runs.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from contextlib import nullcontext, suppress
from difflib import get_close_matches
from itertools import product
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.types import Override
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from tl_runner.config.bases import Base, Bases, Composed, with_keys
from tl_runner.config.conflicts import impossible, unmet
from tl_runner.config.conflicts_of_teachers import TEACHER, used
from tl_runner.config.loader import PRESETS
from tl_runner.config.overrides import (
    names_in,
    nearest_key,
    parse,
    paths,
    place,
    plain,
    same_word,
    values_of,
    walk,
    word,
)
from tl_runner.config.values import problem
from tl_runner.config.words import index
from tl_runner.errors import human_list, nearest


class Checker:
    """Composes each combination of choices once, and checks jobs of them."""

    def __init__(self, hydra: Hydra) -> None:
        self.bases = Bases(hydra)
        self.groups = self.bases.groups

    # ---- names of groups, choices and keys

    def names(self, parsed: Sequence[Override], sweep: bool) -> dict[str | None, str]:
        """What is wrong with each override whose group, choice or key does not exist in any job."""
        first = self.bases.of(self.bases.choices_of(parsed))
        known = {*self.groups, *first.known}
        message = {o.input_line: self._name(o, parsed, known, sweep) for o in parsed}
        return {line: text for line, text in message.items() if text}

    def _name(
        self, override: Override, parsed: Sequence[Override], known: set[str], sweep: bool
    ) -> str | None:
        key = override.key_or_group
        if key.split(".")[-1] == "_target_" or "_target_" in names_in(override.value()):
            return f"{override.input_line}: a config names no code to run."
        if key == "hydra.mode":
            return f"{override.input_line}: write -m for a sweep, nothing for one run."
        if key == "hydra/sweeper":
            return f"{override.input_line}: sweeps are tl-run's own. For a search: -m sweep=tpe."
        if key.split(".")[0].split("/")[0] == "hydra":
            return None
        if override.is_sweep_override() and not sweep:
            return f"{override.input_line}: several values make a sweep. Add -m."
        if key == "sweep" and override.is_sweep_override():
            return (
                f"{override.input_line}: one preset at a time; give the other's keys on the line."
            )
        if key in self.groups:
            return self._misplaced(override, parsed) or self._choice(override)
        if key.startswith("teacher.") and (message := self._no_teacher(override, parsed)):
            return message
        if key not in known and not self._key_of_some_choice(key, parsed):
            deep = same_word(key, known) if key.count(".") > 1 else ""  # before all is composed
            meant = deep or self._elsewhere(key) or self._spelt(key, known)
            return f"{key}: no such key or group.{meant}"
        if override.is_add() or override.is_delete():
            return f"{override.input_line}: keys are neither added nor removed. Write {key}=value."
        return None

    def _choice(self, override: Override) -> str | None:
        """What is wrong with the choices of a group."""
        key = override.key_or_group
        if None in values_of(override):
            leave = "leave the word out" if key in PRESETS else f"a run cannot do without a {key}"
            return f"{override.input_line}: {leave}."
        for choice in values_of(override):
            if str(choice) not in self.groups[key]:
                near, options = nearest(choice, self.groups[key]), ", ".join(self.groups[key])
                return f"{place(override)}={choice}: no such {key}.{near} There are {options}."
        return None

    def _key_of_some_choice(self, key: str, parsed: Sequence[Override]) -> bool:
        """Whether ``key`` exists for another choice of a sweep over groups; its own job is then
        checked by itself."""
        swept = [o for o in parsed if o.key_or_group in self.groups and o.is_sweep_override()]
        options = [
            (place(o), c)
            for o in swept
            for c in values_of(o)
            if str(c) in self.groups[o.key_or_group]
        ]
        return any(key in self.bases.of([f"{g}={word(c)}"]).known for g, c in options)

    def _misplaced(self, override: Override, parsed: Sequence[Override]) -> str | None:
        """What is wrong with the part of the config that a group's choice is for."""
        if place(override) == override.key_or_group:
            return None
        if place(override) != TEACHER:
            return (
                f"{override.input_line}: a choice goes to its own section, but for {TEACHER}=, "
                "the teacher's network."
            )
        return self._no_teacher(override, parsed)

    def _no_teacher(self, override: Override, parsed: Sequence[Override]) -> str | None:
        """What to say of a setting of the teacher's network where no run of the command has one."""
        if "teacher" in self.bases.of(self.bases.choices_of(parsed)).bare["method"]:
            return None
        groups = {
            o.key_or_group: values_of(o)
            for o in parsed
            if o.key_or_group in ("method", "experiment") and not o.package
        }
        every = product(
            *(
                [f"{g}={c}" for c in values if str(c) in self.groups[g]]
                for g, values in groups.items()
            )
        )
        names = [self.bases.of([*choices]).bare["method"] for choices in every]
        if not names or any("teacher" in method for method in names):
            return None
        return (
            f"{override.input_line}: method={names[0]['name']} has no teacher. method=kd has one."
        )

    def _elsewhere(self, key: str) -> str:
        """Which other choices of its group have the key."""
        having = self.bases.having(key)
        return f" {' or '.join(having)} would have it." if having else ""

    def _spelt(self, key: str, known: Collection[str]) -> str:
        """The nearest key of this command's choices, or of another choice of its group."""
        here = nearest_key(key, known)
        group = key.partition(".")[0]
        if group not in self.groups or "." not in key:
            return here
        every = index(self.bases.roots, group)
        near = get_close_matches(key, {*every, *known}, n=1, cutoff=0.8)
        if not near or near[0] in known:
            return here
        return f" Did you mean '{near[0]}', of {group}={human_list(every[near[0]], 3)}?"

    # ---- one job

    def job(self, overrides: Sequence[str]) -> tuple[list[str], Composed | None]:
        """The problems of one job, or the job."""
        parsed = parse(overrides)
        base = self.bases.of(self.bases.choices_of(parsed))
        known, problems = base.known, list(base.problems)
        for path in paths(base.own):
            if path not in known:
                problems.append(
                    f"{path}, set in {base.preset}: no such key.{nearest_key(path, known)}"
                )
        for override in parsed:
            key = override.key_or_group
            if key not in self.groups and not key.startswith("hydra") and key not in known:
                group = key.partition(".")[0]
                # another choice of the sweep has it, or the first check had spoken
                problems.append(
                    f"{key}: {group}={base.choices[group]} has no such key. Leave it out there: "
                    "sweep those that have it by themselves."
                    if group in base.choices
                    else f"{key}: no such key.{nearest_key(key, known)}"
                )
        merged = with_keys(base, parsed)
        try:
            resolved, defaults = plain(merged, resolve=True), base.defaults
        except (InterpolationResolutionError, OmegaConfBaseException) as error:
            found: list[str] = []
            # what the data lacks, rather than where that shows
            with suppress(LookupError, TypeError, AttributeError, ArithmeticError):
                found = [*unmet(plain(merged))]
            return [*problems, *(found or [str(error).splitlines()[0]])], None
        problems += wrong_values(resolved, plain(merged), base, defaults, problems)
        # one that stumbles over what is wrong
        with (
            suppress(LookupError, TypeError, AttributeError, ArithmeticError)
            if problems
            else nullcontext()
        ):
            problems += impossible(resolved)
        return problems, None if problems else Composed(merged, used(resolved), base, parsed)


def wrong_values(
    resolved: dict[str, Any],
    unresolved: dict[str, Any],
    base: Base,
    defaults: dict[str, Any],
    so_far: Sequence[str],
) -> list[str]:
    """What is wrong with the keys and values of a job, but for what was said of them already."""
    problems: list[str] = []
    typed = dict(walk(unresolved))
    for path, value in walk(resolved):
        if (
            str(typed.get(path)).startswith("${")
            and typed[path] == base.known.get(path)
            and "oc.env" not in typed[path]
        ):
            continue  # the value that it points to is checked where it stands
        if path not in defaults and not any(path in p for p in (*so_far, *problems)):
            problems.append(f"{path}: no such key.{nearest_key(path, base.known)}")
        elif path in defaults and not isinstance(value, dict):
            if message := problem(path, value, defaults[path], base.rules.get(path)):
                problems.append(message)
        elif path in defaults and not isinstance(defaults[path], dict):
            problems.append(f"{path} should be one value, not a group.")
    return problems


class IdleKeys:
    """The overrides of a command that none of its jobs reads, found job by job."""

    def __init__(self, overrides: Sequence[Override], groups: Container[str]) -> None:
        self.open = [
            o
            for o in overrides
            if place(o) == TEACHER
            or (o.key_or_group not in groups and not o.key_or_group.startswith(("hydra", "sweep.")))
        ]
        self.messages: dict[str, str] = {}

    def see(self, job: Composed) -> None:
        """Strike out what a job reads."""
        for override in [*self.open]:
            message = job.idle(override)
            if message == "":
                self.open.remove(override)
            elif message:
                self.messages.setdefault(str(override.input_line), message)

    def problems(self) -> list[str]:
        """What to say of those that are left."""
        lines = [str(o.input_line) for o in self.open]
        return [f"{line}: {self.messages[line]}" for line in lines if line in self.messages]
