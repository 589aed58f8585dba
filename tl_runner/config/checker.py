"""Check a whole command before anything heavy is imported: every error of every job, shown
together.

Hydra stops at its first complaint and does not look inside untyped groups, so a misspelt key in an
experiment would run without a word. Here the config is composed once from the group choices alone;
whatever else a command or an experiment sets must be a key of that, and of its type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import product
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from tl_runner.config.conflicts_of_episodes import idle_beside_tasks, impossible_tasks
from tl_runner.config.conflicts_of_teachers import (
    TEACHER,
    idle_beside_a_teacher,
    impossible_teaching,
    listed,
    place,
    used,
)
from tl_runner.config.values import problem
from tl_runner.errors import nearest
from tl_runner.metrics.selection_rules import RULES as SELECTION

PRESETS = ("experiment", "debug", "local")  # groups that set other groups' keys and add none


class Checker:
    """Composes what the checks compare with, each combination of choices once."""

    def __init__(self) -> None:
        loader = GlobalHydra.instance().config_loader()
        self._bases: dict[tuple[str, ...], tuple[dict, dict, dict]] = {}
        groups = loader.list_groups("")
        self.groups = {
            g: [o for o in loader.get_group_options(g) if not o.startswith("_")] for g in groups
        }

    def names(self, parsed: Sequence[Override], sweep: bool) -> dict[str | None, str]:
        """What is wrong with each override whose group, choice or key does not exist in any job."""
        choices = {
            place(o): self._values(o)[0]
            for o in parsed
            if o.key_or_group in self.groups and place(o) in (o.key_or_group, TEACHER)
        }
        choices = {g: c for g, c in choices.items() if str(c) in self.groups[g.partition("@")[0]]}
        known = set(self.groups) | set(
            _paths(self.base([f"{g}={_word(c)}" for g, c in choices.items()])[1])
        )
        said = {
            o.input_line: self._name(o, parsed, known, sweep)
            or idle_beside_a_teacher(o, parsed)
            or idle_beside_tasks(o, known)
            for o in parsed
        }
        return {line: text for line, text in said.items() if text}

    def _name(
        self, override: Override, parsed: Sequence[Override], known: set[str], sweep: bool
    ) -> str | None:
        key = override.key_or_group
        if key.split(".")[-1] == "_target_" or "_target_" in set(_keys(override.value())):
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
            if said := self._misplaced(override, parsed):
                return said
            if None in self._values(override):
                leave = (
                    "leave the word out" if key in PRESETS else f"a run cannot do without a {key}"
                )
                return f"{override.input_line}: {leave}."
            for choice in self._values(override):
                if str(choice) not in self.groups[key]:
                    options = ", ".join(self.groups[key])
                    return (
                        f"{place(override)}={choice}: no such {key}. There are "
                        f"{options}.{nearest(choice, self.groups[key])}"
                    )
        elif key.startswith("teacher.") and (said := self._no_teacher(override, parsed)):
            return said
        elif key not in known and not self._key_of_some_choice(key, parsed):
            return f"{key}: no such key or group.{self._elsewhere(key) or nearest_key(key, known)}"
        elif override.is_add() or override.is_delete():
            return f"{override.input_line}: keys are neither added nor removed. Write {key}=value."
        return None

    def _key_of_some_choice(self, key: str, parsed: Sequence[Override]) -> bool:
        """Whether ``key`` exists for another choice of a sweep over groups; its own job is then
        checked by itself."""
        swept = [o for o in parsed if o.key_or_group in self.groups and o.is_sweep_override()]
        options = [
            (place(o), c)
            for o in swept
            for c in self._values(o)
            if str(c) in self.groups[o.key_or_group]
        ]
        return any(key in set(_paths(self.base([f"{g}={_word(c)}"])[1])) for g, c in options)

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
        groups = {
            o.key_or_group: self._values(o)
            for o in parsed
            if o.key_or_group in ("method", "experiment") and not o.package
        }
        every = product(
            *(
                [f"{g}={c}" for c in values if str(c) in self.groups[g]]
                for g, values in groups.items()
            )
        )
        names = [self.base([*choices])[1]["method"] for choices in every]
        if not names or any("teacher" in method for method in names):
            return None
        return (
            f"{override.input_line}: method={names[0]['name']} has no teacher. method=kd has one."
        )

    def _elsewhere(self, key: str) -> str:
        """Which other choices of its group have the key."""
        group = {"teacher": TEACHER}.get(key.split(".")[0], key.split(".")[0])
        choices = () if group in PRESETS else self.groups.get(group.partition("@")[0], ())
        having = [c for c in choices if key in set(_paths(self.base([f"{group}={c}"])[1]))]
        return f" {group}={' or '.join(having[:3])} would have it." if having else ""

    def base(self, choices: Sequence[str]) -> tuple[dict, dict, dict]:
        """(config with its presets, config without them, group choices), unresolved, for group
        choices alone."""
        key = tuple(choices)
        if key not in self._bases:
            full = compose("config", list(choices), return_hydra_config=True)
            runtime = dict(full.hydra.runtime.choices)
            chosen = [
                f"{g}={c}"
                for g, c in runtime.items()
                if c is not None and (g in self.groups or g == TEACHER)
            ]
            bare = plain(
                compose(
                    "config",
                    [c for c in chosen if c.split("=")[0] not in (*PRESETS, "sweep", "hydra")],
                )
            )
            with_presets = {k: v for k, v in plain(full).items() if k != "hydra"}
            # the one preset with settings of its own
            bare |= {k: v for k, v in with_presets.items() if k == "sweep"}
            self._bases[key] = with_presets, bare, runtime
        return self._bases[key]

    def job(
        self, overrides: Sequence[str]
    ) -> tuple[list[str], tuple[dict[str, Any], dict[str, str]] | None]:
        """The problems of one job, or its (resolved config, group choices)."""
        parsed = parse(overrides)
        choices = [
            f"{place(o)}={_word(o.value())}"
            for o in parsed
            if o.key_or_group in self.groups and not o.is_delete()
        ]
        config, bare, runtime = self.base(choices)
        known, problems = dict(walk(bare)), []
        preset = next(
            (
                f"{g}/{runtime[g]}.yaml"
                for g in ("experiment", "sweep", "debug", "local")
                if runtime.get(g)
            ),
            "a preset",
        )
        for path in _paths(config):
            if path not in known:
                problems.append(f"{path}, set in {preset}: no such key.{nearest_key(path, known)}")
        merged = OmegaConf.create(config)
        for override in parsed:
            key = override.key_or_group
            if key in self.groups or key.startswith("hydra"):
                continue
            if key not in known:
                problems.append(f"{key}: no such key.{nearest_key(key, known)}")
            else:
                OmegaConf.update(merged, key, override.value())
        try:
            resolved = plain(merged, resolve=True)
            defaults = dict(walk(plain(OmegaConf.create(bare), resolve=True)))
        except (InterpolationResolutionError, OmegaConfBaseException) as error:
            found: list[str] = []
            # what the data lacks, rather than where that shows
            with suppress(LookupError, TypeError, AttributeError, ArithmeticError):
                found = [*unmet(plain(merged))]
            return [*problems, *(found or [str(error).splitlines()[0]])], None
        assert isinstance(resolved, dict)
        typed = dict(walk(plain(merged)))
        for path, value in walk(resolved):
            if (
                str(typed.get(path)).startswith("${")
                and typed[path] == known.get(path)
                and "oc.env" not in typed[path]
            ):
                continue  # the value that it points to is checked where it stands
            if path not in defaults and not any(path in p for p in problems):
                problems.append(f"{path}: no such key.{nearest_key(path, known)}")
            elif path in defaults and not isinstance(value, dict):
                said = problem(path, value, defaults[path])
                if said:
                    problems.append(said)
            elif path in defaults and not isinstance(defaults[path], dict):
                problems.append(f"{path} should be one value, not a group.")
        # one that stumbles over what is wrong
        with (
            suppress(LookupError, TypeError, AttributeError, ArithmeticError)
            if problems
            else nullcontext()
        ):
            problems += impossible(resolved)
        return problems, None if problems else (used(resolved), runtime)

    @staticmethod
    def _values(override: Override) -> list[Any]:
        if override.is_sweep_override():
            return [_unquoted(s) for s in override.sweep_string_iterator()]
        return [None if override.is_delete() else override.value()]


def impossible(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that are right one by one and cannot run together."""
    for group in ("method", "data", "backbone"):
        if not isinstance(config.get(group), dict) or not isinstance(
            config[group].get("name"), str
        ):
            yield (
                f"{group}: its YAML must be keys and values with a name, the module that it "
                "stands for."
            )
            return
    data, method = config["data"], config["method"]
    if any(not isinstance(x, list) for x in (data.get("gives", []), method.get("needs", []))):
        yield "data.gives and method.needs should be lists, such as [source, target]."
        return
    if both := {*listed(data.get("source"))} & {*listed(data.get("target"))}:
        yield (
            f"data.source and data.target both name {', '.join(sorted(both))}: a domain is "
            "either source or target."
        )
    yield from unmet(config)
    if "source_val" in SELECTION[config["selection"]].needs and data.get("val_fraction") == 0:
        yield (
            f"selection={config['selection']} needs source images to validate on: set "
            "data.val_fraction above 0."
        )
    single = any(
        v == 1 for k, v in walk(config) if k.endswith("batch_size")
    ) and "episodes" not in method.get("needs", ())  # one task
    if config["backbone"].get("batch_norm") and single:
        yield (
            "batch_size=1 and batch norm: one image has no batch statistics. Use at least 2, or "
            "backbone.batch_norm=false."
        )
    if (
        config["backbone"].get("batch_norm") is False
        and config["backbone"].get("bn", "separate") != "separate"
    ):
        yield (
            f"backbone.bn={config['backbone']['bn']} is about batch norm, and "
            "backbone.batch_norm=false has none. Leave one of them out."
        )
    if config["backbone"].get("bn") == "frozen" and _pretrain_epochs(method) == 0:
        yield (
            "backbone.bn=frozen keeps the statistics of the pretraining, and "
            "method.pretrain.epochs=0 leaves that out. Choose one."
        )
    if data.get("transductive") and data.get("target_labels") == "all":
        yield (
            "data.transductive=true tests on target images without labels, and "
            "data.target_labels=all leaves none. Choose one."
        )
    yield from impossible_teaching(config)
    for path, size, parts in cut_batches(config["method"]):
        if size % parts:
            yield (
                f"method.{path}.accumulate={parts} does not divide batch_size={size}, and its "
                "parts must be equal."
            )
        elif size == parts > 1 and config["backbone"].get("batch_norm"):
            yield (
                f"method.{path}.accumulate={parts}: parts of one image, which has no batch "
                f"statistics. Use at most {size // 2}."
            )
    yield from impossible_tasks(config)
    device = config["device"]
    if device["name"] == "cpu" and device["precision"] in ("tf32", "fp16"):
        yield (
            f"device.precision={device['precision']} needs a GPU; on device=cpu choose fp32 or "
            "bf16."
        )
    if device["name"] in ("cpu", "mps") and device["cuda_graphs"]:
        yield f"device.cuda_graphs=true needs device=cuda, not {device['name']}."


def unmet(config: Mapping[str, Any]) -> Iterator[str]:
    """What the method needs and the data or the backbone does not have."""
    data, method, known = config["data"], config["method"], needs(config)
    unnamed = unnamed_source(data)
    for need in method.get("needs", ()):
        missing = unnamed if need == "source" else None
        otherwise = f"needs a {need} domain" + (
            f": set data.{missing}." if missing else ", which this data does not have."
        )
        met, otherwise = known.get(need, (need in data.get("gives", ()) and not missing, otherwise))
        if not met:
            yield f"method={method['name']} {otherwise}"


def cut_batches(method: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(section, batch size, parts) of every phase."""
    for path, section in walk(method):
        size, parts = (
            section.get(key) if isinstance(section, dict) else None
            for key in ("batch_size", "accumulate")
        )
        if isinstance(size, int) and isinstance(parts, int) and parts > 0:
            yield path, size, parts


def unnamed_source(data: Mapping[str, Any]) -> str | None:
    """The key that would name this data's source and is null."""
    keys = ["source_dir"] if "source_dir" in data else ["source_file", "source_classes"]
    return next((key for key in keys if key in data and data[key] is None), None)


def needs(config: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """What a method may need beside domains, by the word in its YAML: whether it is there, and what
    to say if not."""
    data, backbone, sizes = (
        config["data"],
        config["backbone"],
        [v for k, v in walk(config["method"]) if k.endswith("batch_size")],
    )
    return {
        "target_labels": (
            bool(config["data"].get("target_labels")),
            "learns from target labels: set data.target_labels to a number a class, or to all.",
        ),
        "pretrain": (
            _pretrain_epochs(config["method"]) != 0,
            "begins with a trained source classifier: set method.pretrain.epochs to at least 1.",
        ),
        "start": (
            _pretrain_epochs(config["method"]) == 0
            or ("source" in data.get("gives", ()) and not unnamed_source(data)),
            "begins with a network trained on a source, which this data does not name: "
            f"{f'set data.{unnamed_source(data)}' if unnamed_source(data) else 'take other data'}, "
            "or method.pretrain.epochs=0.",
        ),
        "tasks": (
            "tasks" in data.get("gives", ()),
            "learns several tasks on the same images, which this data does not have: "
            "data=multitask_digits has.",
        ),
        "episodes": (
            "episodes" in data.get("gives", ()),
            "learns from few-shot tasks, which this data does not have: data=glyphs, "
            "data=omniglot and data=sinusoid have.",
        ),
        "classes": (
            "ways" in data,
            "tells classes apart, and the tasks of this data ask for a number: data=glyphs and "
            "data=omniglot have classes.",
        ),
        "pairs": (
            1 not in sizes,
            "compares the images of a batch with each other: batch_size=1 is too few.",
        ),
        "triples": (
            config["method"].get("distil", {}).get("batch_size", 3) > 2,
            "compares angles between three images of a batch: method.distil.batch_size should be "
            "at least 3.",
        ),
        "batch_statistics": (
            backbone.get("batch_norm") is not False and backbone.get("bn") != "frozen",
            "replaces batch norm's statistics: "
            + (
                "backbone.bn=frozen would keep them."
                if backbone.get("bn") == "frozen"
                else "set backbone.batch_norm=true."
            ),
        ),
    }


def _pretrain_epochs(method: Mapping[str, Any]) -> Any:
    phase = method.get("pretrain")
    return phase.get("epochs") if isinstance(phase, dict) else None


def nearest_key(key: str, known: Any) -> str:
    """The nearest key: the same last word elsewhere, else the nearest spelling."""
    leaf = key.split(".")[-1]
    same = [k for k in known if k.split(".")[-1] == leaf and k != key]
    return f" Did you mean '{same[0]}'?" if len(same) == 1 else nearest(key, known)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides read by Hydra's grammar; there must be a current Hydra."""
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(
        list(overrides)
    )


def plain(config: Any, resolve: bool = False) -> dict[str, Any]:
    """A config as dicts and lists."""
    out: Any = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(out, dict)
    return out


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every key, sections included."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, dict):
            yield from walk(value, f"{path}.")


def _keys(value: Any) -> Iterator[str]:
    """Every key of dicts inside a value of Hydra's grammar."""
    if isinstance(value, dict):
        yield from (str(key) for key in value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from _keys(part)


def _paths(config: Any) -> list[str]:
    return [path for path, _ in walk(config)]


def _unquoted(text: str) -> str:
    return text.strip("'\"")


def _word(value: Any) -> str:
    return "null" if value is None else str(value)
