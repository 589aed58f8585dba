"""``result.json`` and ``config.yaml`` of a finished run, which may be damaged, edited or another's.

Whatever is taken from them is checked first: a wrong value would otherwise be a wrong answer, or an
error from somewhere deep inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tl_runner.config.shared_values import BY_PATH
from tl_runner.config.values import Rule, all_in, either, null, number, one_of, text
from tl_runner.data.task import Outline
from tl_runner.errors import CheckpointError

LARGEST_YAML = 2**20  # bytes; a run's own config is a few thousand
DEEPEST = 50  # lists and mappings in one another
LARGEST = (10**6, 2**16, 2**16)  # channels, or numbers of a vector; pixels
MOST = 2**31  # numbers of an image
FINITE = 1e300  # no number of ours comes near

# safe as the other is, and ten times faster
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring = 2, 4, 4, 60


# ---- what a value may be


def different_names(value: Any) -> str | None:
    """Names, each once; none of a run that predicts numbers."""
    fine = all_in(text)(value) is None and len({*value}) == len(value)
    return None if fine else "a list of different names"


def shape(value: Any) -> str | None:
    """(C, H, W) of an image that a machine can hold."""
    fine = (
        isinstance(value, list)
        and len(value) == len(LARGEST)
        and all(
            number(1, most, whole=True)(n) is None for n, most in zip(value, LARGEST, strict=True)
        )
        and value[0] * value[1] * value[2] <= MOST
    )
    return None if fine else "channels, height and width, whole numbers of an image of usual size"


def low_high(value: Any) -> str | None:
    """Two numbers, the first below the second."""
    fine = all_in(number(-FINITE, FINITE))(value) is None and len(value) == 2
    return None if fine and value[0] < value[1] else "a lower and a higher number"


def scale(value: Any) -> str | None:
    """Mean and deviation of each feature."""
    fine = (
        isinstance(value, dict)
        and {*value} == {"mean", "deviation"}
        and all_in(number(-FINITE, FINITE))(value["mean"]) is None
        and all_in(number(0, FINITE, open_low=True))(value["deviation"]) is None
        and len(value["mean"]) == len(value["deviation"])
    )
    return None if fine else "mean and deviation, lists of as many numbers, no deviation of 0"


def mapping_of(rule: Rule) -> Rule:
    """Names, and of each a value that keeps ``rule``."""

    def check(value: Any) -> str | None:
        fine = isinstance(value, dict) and all(rule(v) is None for v in value.values())
        return None if fine else f"names, and of each {rule(object())}"

    return check


def group(value: Any) -> str | None:
    """A section of a config."""
    return None if isinstance(value, dict) else "keys and values"


BOOL = one_of(True, False)
RESULT: dict[str, Rule] = {
    "classes": different_names,
    "choices": mapping_of(text),
    "metric": text,
    "score": either(null, number(-FINITE, FINITE)),
}
OUTLINE: dict[str, Rule] = {
    "classes": different_names,
    "shape": shape,
    "labelled": BOOL,
    "every_label": BOOL,
    "splits": all_in(text),
    "sources": all_in(text),
    "source_classes": either(null, different_names),
    "also": mapping_of(number(0, whole=True)),
    "scale": either(null, scale),
    "pixels": either(null, low_high),
    "inputs": either(null, shape),
    "reader": either(null, text),
}
CONFIG: dict[str, Rule] = {
    "seed": BY_PATH["seed"],
    **dict.fromkeys(("data", "backbone", "method", "device", "train"), group),
    **dict.fromkeys(("data.name", "backbone.name", "method.name"), text),
    **{key: rule for key, rule in BY_PATH.items() if key.startswith(("device.", "backbone."))},
    **dict.fromkeys(("device.compile", "device.cuda_graphs"), BOOL),
    "backbone.module": text,
    "data.fit": one_of("crop", "stretch"),
    "data.standardise": BOOL,
    "data.augment": group,
}
# what earlier versions did not write, or other choices have not
OPTIONAL = {
    *(RESULT.keys() - {"classes"}),
    *(OUTLINE.keys() - {"classes", "shape"}),
    *(key for key in CONFIG if key.startswith("backbone.") and key != "backbone.name"),
    *("data.fit", "data.standardise", "data.augment"),
}


# ---- the files


def read_result(folder: Path) -> dict[str, Any]:
    """Content of a finished run's ``result.json``; its outline is left to :func:`read_outline`.

    Raises:
        CheckpointError: there is no such folder or file, it is damaged, or the run is not done.
    """
    file = folder / "result.json"
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder.")
    if not file.is_file():
        inside = sorted(f.parent.name for f in folder.glob("*/result.json"))[:3]
        which = f" It holds runs: {', '.join(inside)}, ..." if inside else ""
        raise CheckpointError(
            f"{folder} is no run's folder: it has no result.json. Name the folder that a run "
            f"left.{which}"
        )
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        status, classes, outline = found["status"], found.get("classes"), found.get("outline")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({type(error).__name__}).") from error
    if status != "done":
        how = (
            "It failed; its run.log says why"
            if status == "failed"
            else f"Finish it: tl-run resume={folder}"
        )
        shown = status if isinstance(status, str) else _short(status)
        raise CheckpointError(f"{folder} is a run that is not done ({shown}). {how}.")
    if classes is None or outline is None:
        raise CheckpointError(
            f"{file} does not say what its images and classes are: an earlier version wrote "
            "it. Run it again."
        )
    _check(file, found, RESULT)
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config, which was written with every reference in it resolved.

    Raises:
        CheckpointError: it cannot be read, or has not the keys and values that a run needs.
    """
    file = folder / "config.yaml"
    try:
        if file.stat().st_size > LARGEST_YAML:
            raise ValueError(f"it is larger than {LARGEST_YAML / 2**20:g} MB")
        content = file.read_text(encoding="utf-8")
        check_plain(content)
        found: Any = OmegaConf.to_container(OmegaConf.create(content))
        if not isinstance(found, dict) or "seed" not in found:
            raise ValueError("it has no seed")
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(
            f"{file} cannot be read as a run's config ({' '.join(str(error).split())[:200]})."
        ) from error
    _check(file, found, CONFIG)
    return found


def check_plain(content: str) -> None:
    """Refuse YAML that grows when it is read, or is nested without end; nothing is built of it.

    Raises:
        ValueError: it has anchors, which no config that a run has written has, or is too deep.
        YAMLError: it is none.
    """
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if getattr(event, "anchor", None):
            raise ValueError(f"line {event.start_mark.line + 1} has an anchor or an alias")
        opens, closes = (
            isinstance(event, kind) for kind in (yaml.CollectionStartEvent, yaml.CollectionEndEvent)
        )
        depth += opens - closes
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


def read_outline(folder: Path, result: Mapping[str, Any], config: Mapping[str, Any]) -> Outline:
    """Outline of the task that a run learned, as its result has it.

    Raises:
        CheckpointError: a value is of another kind, or does not go with the others.
    """
    file, found = folder / "result.json", result["outline"]
    if wrong := group(found):
        _refuse(file, "outline", found, wrong)
    for key in found.keys() - OUTLINE.keys():
        raise CheckpointError(f"{file} is damaged: outline.{key}: there is no such key.")
    _check(file, found, OUTLINE, "outline.")
    if found["classes"] != result["classes"]:
        _refuse(file, "classes", result["classes"], "those of outline.classes, in the same order")
    _agree(file, found, config)
    tuples = ("shape", "inputs", "splits", "sources")
    values: dict[str, Any] = {
        key: tuple(value) if key in tuples and value is not None else value
        for key, value in found.items()
    }
    return Outline(**values)


def _agree(file: Path, outline: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse an outline that does not go with the config: a scale that is lost would be missed
    by nobody."""
    image, scale, inputs = outline["shape"], outline.get("scale"), outline.get("inputs")
    data, frozen = config["data"], bool(config["backbone"].get("frozen"))
    if data["name"] == "arrays" and not inputs:
        if image[1:] != [1, 1]:
            _refuse(file, "outline.shape", image, "[numbers, 1, 1], as data=arrays has it")
        scaled = data.get("standardise", scale is not None)
        if scaled != (scale is not None):
            wanted = "mean and deviation" if scaled else "null"
            _refuse(file, "outline.scale", scale, f"{wanted}, as data.standardise says")
    if frozen != (inputs is not None):
        wanted = "the shape of its images" if frozen else "null"
        _refuse(file, "outline.inputs", inputs, f"{wanted}, as backbone.frozen says")
    if inputs and not scale:
        _refuse(file, "outline.scale", scale, "mean and deviation of the frozen network's features")
    if scale and image != [len(scale["mean"]), 1, 1]:
        _refuse(file, "outline.scale", scale, f"of {image[0]} numbers, as outline.shape is {image}")


def _check(
    file: Path, content: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = ""
) -> None:
    """Refuse a value that breaks the rule of its dotted key, or a missing one."""
    for path, rule in rules.items():
        *above, key = path.split(".")
        section = content
        for name in above:
            section = section[name]
        if key in section:
            if wrong := rule(section[key]):
                _refuse(file, prefix + path, section[key], wrong)
        elif path not in OPTIONAL:
            raise CheckpointError(f"{file} is damaged: {prefix}{path} is missing.")


def _refuse(file: Path, key: str, value: Any, wanted: str) -> NoReturn:
    end = "" if wanted.endswith(("?", ".")) else "."
    raise CheckpointError(f"{file} is damaged: {key}={_short(value)} should be {wanted}{end}")


def _short(value: Any) -> str:
    """A value in a message, however large it is."""
    try:
        return "null" if value is None else _SHORT.repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        return f"a {type(value).__name__}"
