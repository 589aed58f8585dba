"""Choices found by their file name: ``method.name: adda`` is
``tl_runner/methods/adaptation/adda.py``. No list to keep.

A user's own installed code has one door: a dotted ``name: my_package.my_method``. Only a module is
named, never an object or arguments to call it with, and what the module must hold is checked before
it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def not_installed(name: str) -> bool:
    """Whether a dotted name is of no package that can be imported; nothing is imported for it."""
    package, dot, _ = name.partition(".")
    if not dot:
        return False
    try:
        return not package.isidentifier() or find_spec(package) is None
    except ValueError:  # a module of this process that no file is known of, such as __main__
        return False


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
    """Refuse a run's config that names a module inside the run's own folder.

    Any dotted name may be one of a user's own modules, wherever it stands (``method.name``,
    ``data.source``). The outermost package alone is looked up, so that nothing is imported.

    Raises:
        CheckpointError: a value is a dotted name of code inside ``folder``.
    """
    for key, value in _texts(config):
        parts = value.split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            continue
        try:
            spec = find_spec(parts[0])
        except ValueError:  # a module of this process that no file is known of, such as __main__
            continue
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places if place):
            raise CheckpointError(
                f"{key}={value} of this run is code in its own folder, which is not run. "
                "Install it first."
            )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested dicts and lists, with the dotted key that it stands under."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value
