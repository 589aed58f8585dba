"""Choices found by their file name: ``method.name: adda`` is
``tl_runner/methods/adaptation/adda.py``. No list to keep.

A user's own installed code has one door: a dotted ``name: my_package.my_method``. Only a module is
named, never an object or arguments to call it with, and what the module must hold is checked before
it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tl_runner.errors import CheckpointError, ConfigError, nearest

HERE = Path(__file__).resolve().parent


def choices(folder: str) -> dict[str, str]:
    """The choices of a folder of them, by name: the dotted path of each one's module.

    ``x.py`` is a choice, ``_x.py`` a part of some. ``methods/*`` are all families' folders: a name
    is one choice, wherever it is.
    """
    found = {}
    for file in sorted(HERE.glob(f"{folder}/[!_]*.py")):
        found[file.stem] = ".".join((HERE.name, *file.relative_to(HERE).with_suffix("").parts))
    return found


def module(folder: str, name: str) -> ModuleType:
    """The module of a choice: ``name`` in a folder of choices (``backbones``, ``methods/*``), or
    the module that a dotted one is.

    Raises:
        ConfigError: there is no such module.
    """
    if "." not in name:
        known = choices(folder)
        if name not in known:
            raise ConfigError(
                [
                    f"name: {name} (of {folder.removesuffix('/*')}): there is no such "
                    f"choice.{nearest(name, known)}"
                ]
            )
        return import_module(known[name])
    try:
        found = find_spec(name) if all(part.isidentifier() for part in name.split(".")) else None
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            [f"name: {name}: there is no such module. It has to be installed or on PYTHONPATH."]
        )
    return import_module(name)


def class_in(folder: str, name: str, base: type) -> type:
    """The one public subclass of ``base`` that the choice's module itself defines.

    Raises:
        ConfigError: there is none.
    """
    found = module(folder, name)
    own = [
        c
        for c in vars(found).values()
        if isinstance(c, type)
        and issubclass(c, base)
        and c.__module__ == found.__name__
        and not c.__name__.startswith("_")
    ]
    if not own:
        raise ConfigError(
            [f"{found.__name__} defines no {base.__name__}: add a class derived from it."]
        )
    return own[-1]


def refuse_code_of(folder: Path, config: Mapping[str, Any]) -> None:
    """Whether what a run's config names is installed: a module that came with the run's folder is
    never imported.

    Looks for the outermost package alone, so that nothing is imported on the way.

    Raises:
        CheckpointError: a section's dotted name is of code inside ``folder``.
    """
    for group, section in config.items():
        name = (
            str(section.get("module", section.get("name", "")))
            if isinstance(section, Mapping)
            else ""
        )
        if "." not in name:
            continue
        spec = find_spec(name.partition(".")[0])
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places if place):
            raise CheckpointError(
                f"{group}.name={name} of this run is code in its own folder, which is not run. "
                "Install it first."
            )
