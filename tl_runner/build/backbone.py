"""From a section of the config to new backbones, with their first weights."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_runner import plugins
from tl_runner.backbones import Backbone
from tl_runner.backbones._batch_norm import by_domain
from tl_runner.backbones._frozen import KEYS as FROZEN
from tl_runner.backbones._frozen import FrozenNetwork, OnFrozen, trained_part
from tl_runner.backbones._weights import fill, read
from tl_runner.build._keys import check_keys
from tl_runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def maker(
    options: Mapping[str, Any], shape: tuple[int, int, int], group: str = "backbone"
) -> Callable[[], Backbone]:
    """A function that makes new backbones, all with the same weights where the section names some.

    Args:
        options: the section of the config.
        shape: (C, H, W) of the images.
        group: the section's name.

    Raises:
        ConfigError: there is no such backbone, or it does not take the section's keys.
        CheckpointError: the weights cannot be read.
    """
    if options.get("frozen"):
        return on_frozen(options, shape, group)
    kind = plugins.class_in("backbones", options.get("module", options["name"]), Backbone)
    ours = ("module" if "module" in options else "name", "bn", "weights", *FROZEN)
    keys = {k: v for k, v in options.items() if k not in ours}
    check_keys(kind, keys, group)
    weights = first_weights(options, f"{group}.weights")

    def make() -> Backbone:
        try:
            backbone = kind(shape, **keys)
        except ConfigError as error:
            hint = ["Feature vectors are for backbone=mlp."] if shape[1:] == (1, 1) else []
            raise ConfigError([*error.problems, *hint]) from error
        if weights:
            backbone.origin = fill(backbone, *weights, f"{group}.weights")
        backbone.options = {"name": options["name"], **keys}
        backbone.bn = options.get("bn", "separate")
        return by_domain(backbone) if backbone.bn == "domain_specific" else backbone

    return make


def on_frozen(
    options: Mapping[str, Any], shape: tuple[int, int, int], group: str
) -> Callable[[], Backbone]:
    """A function that makes what is trained on a frozen network's features, (d, 1, 1) each.

    Raises:
        ConfigError: ``group`` is not that of the run's own backbone.
    """
    if group != "backbone":
        raise ConfigError(
            [f"{group}.frozen=true: features are computed once for backbone= alone. Leave it out."]
        )
    section = trained_part(options)
    rest = maker(section, shape, group)

    def make() -> Backbone:
        backbone = OnFrozen(rest())
        backbone.bn, backbone.options = section["bn"], section
        return backbone

    return make


def frozen_network(
    options: Mapping[str, Any], shape: tuple[int, int, int], shared: bool = True
) -> FrozenNetwork | None:
    """The network that a section freezes, with its first weights; None where it freezes none.

    Args:
        options: the section of the config.
        shape: (C, H, W) of what it takes.
        shared: between the runs of a process, so that nobody may change its weights.
    """
    if not options.get("frozen"):
        return None
    plain = {k: v for k, v in options.items() if k not in FROZEN}
    if not shared:
        return FrozenNetwork(maker(plain, shape)())
    file = Path(str(plain.get("weights"))).expanduser()
    written = file.stat().st_mtime_ns if file.is_file() else 0
    return FrozenNetwork(_network(json.dumps(plain, sort_keys=True, default=str), shape, written))


@lru_cache(maxsize=1)  # the runs of a sweep stand on one network, which none of them changes
def _network(options: str, shape: tuple[int, int, int], written: int) -> Backbone:
    return maker(json.loads(options), shape)()


def first_weights(options: Mapping[str, Any], key: str) -> tuple[dict[str, Tensor], str] | None:
    """The state dict that ``weights`` of a section names, and its name; None for random weights.

    Args:
        options: the section of the config.
        key: the user's word for it, for messages.
    """
    weights = options.get("weights")
    if not weights:
        return None
    path, name = Path(weights).expanduser(), options.get("module", options["name"])
    published = getattr(plugins.module("backbones", name), "published", None)
    if not path.exists() and published:
        return published(options["name"], weights), weights
    return read(path, key), weights
