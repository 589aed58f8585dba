"""Whether a class takes the keys of its YAML."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tl_runner.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_keys(made: type, keys: Mapping[str, Any], group: str) -> None:
    """Raise where a class does not take one positional argument and these keywords.

    Args:
        made: the class of a method or a backbone.
        keys: those of its YAML.
        group: the section of the config that they stand in.

    Raises:
        ConfigError: a key that it does not take, or one missing that it needs.
    """
    parameters = [*inspect.signature(made).parameters.items()]
    takes = {name: p for name, p in parameters[1:] if p.kind is not p.VAR_KEYWORD}
    anything = any(p.kind is p.VAR_KEYWORD for _, p in parameters)
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
