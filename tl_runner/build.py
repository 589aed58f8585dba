"""From a config and the outline of a task to the method on its backbone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tl_runner import plugins
from tl_runner.backbones.base import Backbone, by_domain
from tl_runner.backbones.weights import fill, read
from tl_runner.data.tasks import Outline
from tl_runner.errors import ConfigError, nearest
from tl_runner.methods.base import Method, Setting


def method_of(config: Mapping[str, Any], task: Outline) -> Method:
    """The method on its backbone, on the CPU, with its first weights.

    Raises:
        ConfigError: a module does not take the keys of its YAML.
    """
    backbone_class = plugins.class_in("backbones", config["backbone"].get("module", config["backbone"]["name"]), Backbone)
    method_class: type[Method] = plugins.class_in("methods", config["method"]["name"], Method)
    ours = ("module", "bn", "weights") if "module" in config["backbone"] else ("name", "bn", "weights")
    backbone_keys = {k: v for k, v in config["backbone"].items() if k not in ours}
    given = first_weights(config["backbone"])
    bn = config["backbone"].get("bn", "separate")
    method_keys = {k: v for k, v in config["method"].items() if k not in ("name", "needs", "search")}
    fits(backbone_class, backbone_keys, "backbone")
    fits(method_class, method_keys, "method")

    def make_backbone() -> Backbone:
        try:
            backbone = backbone_class(task.shape, **backbone_keys)
        except ConfigError as error:
            hint = ["Feature vectors are for backbone=mlp."] if task.shape[1:] == (1, 1) else []
            raise ConfigError([*error.problems, *hint]) from error
        if given:
            backbone.origin = fill(backbone, *given)
        return by_domain(backbone) if bn == "domain_specific" else backbone

    others = task.source_classes
    if others is not None and not method_class.other_classes:
        alone = "; ".join(f"{', '.join(map(str, names))} only in the {domain}" for domain, names in differing(task).items())
        why = f"this method needs the same classes in source and target, and they differ by name: {alone}."
        raise ConfigError([f"{why} method=finetune and others of model transfer go on to new classes."])
    there = None if others is None else len(others)
    setting = Setting(len(task.classes), task.shape, make_backbone, config["seed"], bn, task.labelled, task.sources, there, task.also)
    try:
        return method_class(setting, **method_keys)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise ConfigError(
            [f"method: the keys of its YAML do not fit {method_class.__module__}.{method_class.__name__}: {error}."]
        ) from error


def first_weights(options: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], str] | None:
    """The state dict that ``backbone.weights`` names, and its name; None for random weights."""
    weights = options.get("weights")
    if not weights:
        return None
    path = Path(weights).expanduser()
    if not path.exists() and "module" in options:
        from tl_runner.backbones.torchvision import published

        return published(options["name"], weights), weights
    return read(path), weights


def differing(task: Outline) -> dict[str, list[str]]:
    """By domain, a few of the classes that the other one does not have."""
    source, target = task.source_classes or task.classes, task.classes
    found = {"source": sorted({*source} - {*target}), "target": sorted({*target} - {*source})}
    return {domain: names[:5] for domain, names in found.items() if names}


def fits(made: type, keys: Mapping[str, Any], group: str) -> None:
    """Whether a class takes one positional argument and these keywords, the keys of its YAML."""
    takes = {name: p for name, p in list(inspect.signature(made).parameters.items())[1:] if p.kind is not p.VAR_KEYWORD}
    anything = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
    where = f"{made.__module__}.{made.__name__}"
    problems = [f"{group}.{k}: {where} takes no such key.{nearest(k, takes)}" for k in keys if k not in takes and not anything]
    missing = [k for k, p in takes.items() if p.default is p.empty and k not in keys]
    problems += [f"{group}.{k}: {where} needs it, and the {group}'s YAML does not set it." for k in missing]
    if problems:
        raise ConfigError(problems)
