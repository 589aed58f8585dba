"""Words of a command, ``key=value``, taken apart; and dotted paths of a config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from tl_runner.errors import nearest


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides read by Hydra's grammar; there must be a current Hydra."""
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(
        list(overrides)
    )


def place(override: Override) -> str:
    """A group with the section that its choice is for, where the override names one; a key as it
    is."""
    return str(override.key_or_group) + (f"@{override.package}" if override.package else "")


def values_of(override: Override) -> list[Any]:
    """The values of an override, one unless it is a sweep; None where it is removed."""
    if override.is_sweep_override():
        return [text.strip("'\"") for text in override.sweep_string_iterator()]
    return [None if override.is_delete() else override.value()]


def word(value: Any) -> str:
    """A choice as a command has it."""
    return "null" if value is None else str(value)


def text_of(value: Any) -> str:
    """A value as a command has it."""
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    return str(value).lower() if isinstance(value, bool) else word(value)


def names_in(value: Any) -> set[str]:
    """The keys of dicts inside a value of Hydra's grammar."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {str(key) for key in value} if isinstance(value, dict) else set[str]()
    return own.union(*(names_in(part) for part in inner))


def listed(value: Any) -> list[Any]:
    """A value as a list of values, none of nothing."""
    return value if isinstance(value, list) else [value] if value else []


def plain(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """A config as dicts and lists, without Hydra's own section."""
    return {str(key): _plain(config._get_node(key), resolve) for key in config if key != "hydra"}


def _plain(node: Any, resolve: bool) -> Any:
    if OmegaConf.is_config(node) and not node._is_interpolation():
        return OmegaConf.to_container(node, resolve=resolve)
    found = node._dereference_node() if resolve else node
    if OmegaConf.is_config(found) and not found._is_interpolation():
        return OmegaConf.to_container(found, resolve=resolve)
    return found._value()


def walk(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every key, sections included."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, dict):
            yield from walk(value, f"{path}.")


def paths(config: Mapping[str, Any]) -> list[str]:
    """Every dotted path of a config."""
    return [path for path, _ in walk(config)]


def at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path.

    Raises:
        LookupError: there is none.
    """
    found: Any = config
    for part in path.split("."):
        if not isinstance(found, Mapping):
            raise KeyError(path)
        found = found[part]
    return found


def same_word(key: str, known: Iterable[str]) -> str:
    """`` Did you mean ...?`` for a key with the same last word, else an empty string.

    Of several it is one inside the section that was named, inside ``train`` where none was: the one
    with the shortest way to it. A misspelt section is read as the nearest one.
    """
    known = list(known)
    section, _, leaf = key.rpartition(".")
    sections = {k.rpartition(".")[0] for k in known} - {""}
    if section and section not in sections:
        # of a section that is like none, the leaf alone counts
        section = next(iter(get_close_matches(section, sections, n=1, cutoff=0.6)), "")
    same = [k for k in known if k.split(".")[-1] == leaf and k != key]
    inside = [k for k in same if k.startswith(f"{section or 'train'}.")]
    if fit := same if len(same) == 1 else inside:
        return f" Did you mean '{min(fit, key=lambda k: k.count('.'))}'?"
    return ""


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The nearest key: the same last word elsewhere, else the nearest spelling."""
    known = list(known)
    return same_word(key, known) or nearest(key, known)
