"""The choices that are shipped under conf/, and the modules that they name."""

from __future__ import annotations

from functools import cache

import yaml

from tl_runner import plugins
from tl_runner.config.paths import CONF_DIR
from tl_runner.methods.base import Method


@cache
def module_of(group: str, choice: str) -> str:
    """The module that a shipped choice names, by its files alone.

    To compose every choice would take a minute while tests are collected.
    """
    file = CONF_DIR / group / f"{choice}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    own = content.get(group, content)
    if name := own.get("module", own.get("name")):
        return name
    parts = [
        part for part in content.get("defaults", []) if isinstance(part, str) and part != "_self_"
    ]
    return next(
        module_of(group, part) for part in parts if (CONF_DIR / group / f"{part}.yaml").exists()
    )


def method_class(name: str) -> type:
    """The class of a shipped choice of ``method``."""
    return plugins.class_in("methods/*", module_of("method", name), Method)
