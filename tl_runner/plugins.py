"""Things found by their file name: ``method.name: adda`` is ``tl_runner/methods/adda.py``. No list to keep.

A user's own installed code has one door: a dotted ``name: my_package.my_method``. Only a module is named, never an
object or arguments to call it with, and what the module must hold is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tl_runner.errors import CheckpointError, ConfigError, nearest


def module(package: str, name: str) -> ModuleType:
    """``tl_runner.<package>.<name>``, or the module that a dotted ``name`` is.

    Raises:
        ConfigError: there is no such module.
    """
    path = name if "." in name else f"tl_runner.{package}.{name}"
    try:
        found = find_spec(path) if all(part.isidentifier() for part in path.split(".")) else None
    except ModuleNotFoundError:
        found = None
    if found is None:
        folder = Path(__file__).parent / package
        known = [f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")]
        where = " It has to be installed or on PYTHONPATH." if "." in name else ""
        raise ConfigError([f"name: {name} (of {package}): there is no module {path}.{nearest(name, known)}{where}"])
    return import_module(path)


def class_in(package: str, name: str, base: type) -> type:
    """The one public subclass of ``base`` that the module itself defines.

    Raises:
        ConfigError: there is none.
    """
    found = module(package, name)
    own = [
        c
        for c in vars(found).values()
        if isinstance(c, type) and issubclass(c, base) and c.__module__ == found.__name__ and not c.__name__.startswith("_")
    ]
    if not own:
        raise ConfigError([f"{found.__name__} defines no {base.__name__}: add a class derived from it."])
    return own[-1]


def refuse_code_of(folder: Path, config: Mapping[str, Any]) -> None:
    """Whether what a run's config names is installed: a module that came with the run's folder is never imported.

    Looks for the outermost package alone, so that nothing is imported on the way.

    Raises:
        CheckpointError: a section's dotted name is of code inside ``folder``.
    """
    for group, section in config.items():
        name = str(section.get("module", section.get("name", ""))) if isinstance(section, Mapping) else ""
        if "." not in name:
            continue
        spec = find_spec(name.partition(".")[0])
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places if place):
            raise CheckpointError(f"{group}.name={name} of this run is code in its own folder, which is not run. Install it first.")
