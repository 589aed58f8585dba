"""Hydra's composing, and what a config file says about its own keys taken out of the result.

A section of any YAML may hold ``allowed`` (what its keys may be) and ``only_with`` (what each key
needs, to be read at all). They are inherited and merged as any key, and are no part of the config
that runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, flag_override

from tl_runner.config.overrides import plain
from tl_runner.config.paths import CONF_DIR

PRESETS = ("experiment", "debug", "local")  # groups that set other groups' keys and add none
NOTES = ("allowed", "only_with")
Notes = dict[str, dict[str, Any]]  # by word of NOTES and by path of the section it stands in


class Loader(ConfigLoaderImpl):
    """Hydra's loader; launchers send it to their workers, which compose with it too.

    Attributes:
        notes: what the YAMLs of the last composition say about their own keys.
        bare: that composition without its presets, as unresolved dicts.
        preset_notes: the dotted paths of notes that a preset brought, which may bring none.
    """

    notes: Notes
    bare: dict[str, Any]
    preset_notes: list[str]

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        whole = super()._compose_config_from_defaults_list(defaults, repo)
        notes = take_out(whole)
        own = [default for default in defaults if not _is_preset(default)]
        if len(own) < len(defaults):
            # the files again: what was composed shares nodes with those that were read
            fresh = CachingConfigRepository(self.repository)
            without = super()._compose_config_from_defaults_list(own, fresh)
            self.notes, self.bare = take_out(without), plain(without)
        else:
            self.notes, self.bare = notes, plain(whole)
        self.preset_notes = [
            f"{section}.{word}"
            for word in NOTES
            for section, given in notes[word].items()
            if given != self.notes[word].get(section)
        ]
        # a preset of a sweep has settings of its own, beside those of others
        self.bare |= {key: value for key, value in plain(whole).items() if key == "sweep"}
        return whole


def _is_preset(default: ResultDefault) -> bool:
    return str(default.config_path).split("/")[0] in (*PRESETS, "sweep")


def take_out(config: DictConfig) -> Notes:
    """Remove the notes of every section of a composed config, and return them."""
    found: Notes = {word: {} for word in NOTES}

    def visit(section: DictConfig, path: str) -> None:
        if section._is_none() or section._is_missing() or section._is_interpolation():
            return
        for word in NOTES:
            if word in section:
                with flag_override(section, ["readonly", "struct"], [False, False]):
                    note = section.pop(word)
                found[word][path] = (
                    OmegaConf.to_container(note) if OmegaConf.is_config(note) else note
                )
        for key, value in section.items_ex(resolve=False):
            if isinstance(value, DictConfig):
                visit(value, f"{path}.{key!s}")

    for key, value in config.items_ex(resolve=False):
        if key != "hydra" and isinstance(value, DictConfig):
            visit(value, str(key))
    return found


@contextmanager
def composer(config_dir: str | None) -> Iterator[Hydra]:
    """Hydra over the shipped configs and the user's own, to compose with."""
    nameless = "TL_RUN_ID" not in os.environ
    # the front end gives every command its own; folders are named by it
    os.environ.setdefault("TL_RUN_ID", "unnamed")
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="tl-run"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            path = hydra.config_loader.get_search_path()
            if config_dir:
                path.prepend(
                    "command-line", f"file://{Path(config_dir).resolve()}", anchor="schema"
                )
            hydra.config_loader = Loader(path)
            yield hydra
    finally:
        if nameless:
            del os.environ["TL_RUN_ID"]
