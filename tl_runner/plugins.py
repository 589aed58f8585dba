"""Choices found by their file name: ``method.name: adda`` is
``tl_runner/methods/adaptation/adda.py``. No list to keep.

A user's own installed code has one door: a dotted ``name: my_package.my_method``. Only a module is
named, never an object or arguments to call it with, and what the module must hold is checked before
it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    package = name.partition(".")[0]
    valid = all(part.isidentifier() for part in name.split("."))
    places = places_of(package) if valid else []
    if places and not made_for_tl_run(places):  # importing a module runs it
        raise ConfigError(
            [
                f"name: {name}: the package {package} is not made for tl-run, so nothing of it is "
                f"imported. A module of yours imports its base class from {HERE.name}."
            ]
        )
    try:
        found = find_spec(name) if valid else None
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            [f"name: {name}: there is no such module. It has to be installed or on PYTHONPATH."]
        )
    return import_module(name)


def places_of(package: str) -> list[Path]:
    """The file or the folders of an outermost package, which is not imported; empty of none."""
    try:
        spec = find_spec(package)
    except ValueError:  # a module of this process that no file is known of, such as __main__
        return []
    if spec is None:
        return []
    folders = [*(spec.submodule_search_locations or ())]
    return [Path(place).resolve() for place in folders or [spec.origin] if place]


def made_for_tl_run(places: Iterable[Path]) -> bool:
    """Whether a package's source speaks of this one anywhere; nothing of it is run."""
    files = (f for place in places for f in (place.rglob("*.py") if place.is_dir() else [place]))
    return any(HERE.name.encode() in file.read_bytes() for file in files if file.is_file())


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
    """Refuse a run's config that names a module in the run's own folder or beside it.

    Any dotted name may be one of a user's own modules, wherever it stands (``method.name``,
    ``data.source``). The outermost package alone is looked up, so that nothing is imported. Where
    the run's folder lies in that package, as it does in a folder from which a command is given,
    whoever sent the one sent the other.

    Raises:
        CheckpointError: a value is a dotted name of such code.
    """
    folder = folder.resolve()
    for key, value in _texts(config):
        parts = value.split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            continue
        if any(
            place.is_relative_to(folder) or (folder.is_relative_to(place) and place.is_dir())
            for place in places_of(parts[0])
        ):
            raise CheckpointError(
                f"{key}={value} of this run is code that came with its folder, which is not run. "
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
