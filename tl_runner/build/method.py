"""From a config and the outline of a task to the method on its backbone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tl_runner import plugins
from tl_runner.backbones import Backbone
from tl_runner.backbones._batch_norm import by_domain
from tl_runner.backbones._weights import fill, read
from tl_runner.data.task import Outline
from tl_runner.errors import ConfigError, nearest
from tl_runner.methods.base import Method, Setting


def method_of(
    config: Mapping[str, Any],
    task: Outline,
    given: Sequence[nn.Module] = (),
    deployed: bool = False,
) -> Method:
    """The method on its backbone, on the CPU, with its first weights.

    Args:
        config: resolved.
        task: what it is built for.
        given: teachers that are trained already.
        deployed: the method is to predict, with weights that it is given afterwards.

    Raises:
        ConfigError: a module does not take the keys of its YAML.
    """
    method_class: type[Method] = plugins.class_in("methods/*", config["method"]["name"], Method)
    method_keys = {
        k: v for k, v in config["method"].items() if k not in ("name", "needs", "search")
    }
    fits(method_class, method_keys, "method")
    if not task.classes and not method_class.numbers:
        raise ConfigError(
            [
                "this method tells classes apart, and the labels of this data are numbers (y is of "
                "floats). Store classes as integers or "
                f"names, or take backbone=raw and one of {', '.join(for_numbers())}."
            ]
        )
    if not task.classes and config["train"]["balance"]:
        raise ConfigError(
            [
                f"train.balance={config['train']['balance']} is of classes, and the labels of "
                "this data are numbers. Leave it out."
            ]
        )
    if task.classes and not method_class.classes:
        raise ConfigError(
            [
                f"method={config['method']['name']} predicts numbers, and the labels of this data "
                "are classes. "
                "data=arrays reads numbers: y of floats."
            ]
        )
    others = task.source_classes
    if others is not None and not method_class.other_classes:
        alone = "; ".join(
            f"{', '.join(map(str, names))} only in the {domain}"
            for domain, names in differing(task).items()
        )
        why = (
            "this method needs the same classes in source and target, and they differ by name: "
            f"{alone}."
        )
        raise ConfigError(
            [f"{why} method=finetune and others of model transfer go on to new classes."]
        )
    there = None if others is None else len(others)
    setting = Setting(
        len(task.classes),
        task.shape,
        maker(config["backbone"], task.shape),
        config["seed"],
        config["backbone"].get("bn", "separate"),
        task.labelled,
        task.sources,
        there,
        task.also,
        task.splits,
        task.every_label,
        any(config["data"].get("augment", {}).values()),
        maker(config["teacher"], task.shape, "teacher")
        if "teacher" in config and not given and not deployed
        else None,
        given,
        deployed,
    )
    try:
        return method_class(setting, **method_keys)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise ConfigError(
            [
                "method: the keys of its YAML do not fit "
                f"{method_class.__module__}.{method_class.__name__}: {error}."
            ]
        ) from error


def for_numbers() -> list[str]:
    """The methods that come with the package and can be asked for numbers."""
    kinds: dict[str, type[Method]] = {
        name: plugins.class_in("methods/*", name, Method) for name in plugins.choices("methods/*")
    }
    return [name for name, kind in kinds.items() if kind.numbers]


def maker(
    options: Mapping[str, Any], shape: tuple[int, int, int], group: str = "backbone"
) -> Callable[[], Backbone]:
    """What makes new backbones of a section of the config, all with the same weights where it names
    some.

    Raises:
        ConfigError: there is no such backbone, or it does not take the section's keys.
        CheckpointError: the weights cannot be read.
    """
    kind = plugins.class_in("backbones", options.get("module", options["name"]), Backbone)
    ours = ("module", "bn", "weights") if "module" in options else ("name", "bn", "weights")
    keys = {k: v for k, v in options.items() if k not in ours}
    fits(kind, keys, group)
    weights = first_weights(options, f"{group}.weights")

    def make() -> Backbone:
        try:
            backbone = kind(shape, **keys)
        except ConfigError as error:
            hint = ["Feature vectors are for backbone=mlp."] if shape[1:] == (1, 1) else []
            raise ConfigError([*error.problems, *hint]) from error
        if weights:
            backbone.origin = fill(backbone, *weights, f"{group}.weights")
        backbone.options, backbone.bn = (
            {"name": options["name"], **keys},
            options.get("bn", "separate"),
        )
        return by_domain(backbone) if backbone.bn == "domain_specific" else backbone

    return make


def first_weights(
    options: Mapping[str, Any], key: str
) -> tuple[dict[str, torch.Tensor], str] | None:
    """The state dict that ``weights`` names, a key of the section that is ``key`` to the user, and
    its name; None for random weights."""
    weights = options.get("weights")
    if not weights:
        return None
    path = Path(weights).expanduser()
    if not path.exists() and "module" in options:
        from tl_runner.backbones.torchvision import published

        return published(options["name"], weights), weights
    return read(path, key), weights


def differing(task: Outline) -> dict[str, list[str]]:
    """By domain, a few of the classes that the other one does not have."""
    source, target = task.source_classes or task.classes, task.classes
    found = {"source": sorted({*source} - {*target}), "target": sorted({*target} - {*source})}
    return {domain: names[:5] for domain, names in found.items() if names}


def fits(made: type, keys: Mapping[str, Any], group: str) -> None:
    """Whether a class takes one positional argument and these keywords, the keys of its YAML."""
    takes = {
        name: p
        for name, p in list(inspect.signature(made).parameters.items())[1:]
        if p.kind is not p.VAR_KEYWORD
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
    where = f"{made.__module__}.{made.__name__}"
    problems = [
        f"{group}.{k}: {where} takes no such key.{nearest(k, takes)}"
        for k in keys
        if k not in takes and not anything
    ]
    missing = [k for k, p in takes.items() if p.default is p.empty and k not in keys]
    problems += [
        f"{group}.{k}: {where} needs it, and the {group}'s YAML does not set it." for k in missing
    ]
    if problems:
        raise ConfigError(problems)
