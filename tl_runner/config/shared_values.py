"""The one table of values that many choices share: by full path, or by the kind of section.

What a key of one method, data set or backbone may be stands in its own YAML, under ``allowed``, and
wins over this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tl_runner.config.values import PHRASES, Rule, device, either, null, one_of, rule_of
from tl_runner.errors import nearest
from tl_runner.metrics.selection_rules import RULES as SELECTION


def _table(**lines: Any) -> dict[str, Rule]:
    return {key: rule_of(line) for key, line in lines.items()}


# a section with all of these keys, those of conf/train/_optimizer.yaml, is an optimiser
OPTIMIZER = _table(
    name=["adam", "adamw", "sgd"],
    lr="number > 0",
    weight_decay="number >= 0",
    betas="pair of number 0..0.9999999",
    momentum="number 0..0.9999",
    schedule=["constant", "linear", "cosine", "step", "inverse"],
    warmup="number 0..1",
    milestones="list of number 0..1",
    gamma="number 0..1",
    clip_norm="number > 0 or null",
    max_norm="number > 0 or null",
)
# a section with these keys, those of conf/train/_lengths.yaml, is a phase
LENGTHS = ("epochs", "steps_per_epoch", "batch_size")
PHASE = _table(
    epochs="whole >= 1",
    steps_per_epoch="whole >= 1 or null",
    batch_size="whole >= 1",
    accumulate="whole >= 1",
    ema="number 0..0.999999 or null",
    patience="whole >= 1 or null",
    balance=[None, "sampling", "weights"],
    mixup="number >= 0",
    cutmix="number >= 0",
    label_smoothing="number 0..0.99",
)
VIEWS = _table(
    rotate="number 0..180",
    shear="number 0..80",
    translate="number 0..1",
    scale="number 0..10",
    stretch="number 0..10",
    flip="number 0..1",
    brightness="number 0..1",
    contrast="number 0..1",
    saturation="number 0..1",
)
NETWORK = _table(
    bn=["concat", "separate", "domain_specific", "frozen"],
    weights="path or null",
    frozen=[True, False],
    bottleneck="whole >= 1 or null",
    views="whole >= 0",
)
BY_PATH: dict[str, Rule] = {
    "seed": rule_of("whole >= 0"),
    "selection": one_of(*SELECTION),
    "train.pretrain.epochs": rule_of("whole >= 0"),
    "method.pretrain.epochs": rule_of("whole >= 0"),
    **{
        f"train.limit.{key}": rule_of("whole >= 1 or null")
        for key in ("epochs", "steps", "samples")
    },
    "figures": one_of(True, False, "all"),
    "cache.phases": one_of("auto", True, False),
    "cache.dir": rule_of("path"),
    "device.name": device,
    "device.precision": one_of("fp32", "tf32", "bf16", "fp16"),
    "device.channels_last": one_of("auto", True, False),
    "device.threads": rule_of("whole >= 1 or null"),
    "sweep.trials": rule_of("whole >= 1"),
    "sweep.random": rule_of("whole >= 0"),
    "sweep.at_once": rule_of("whole >= 1"),
    "sweep.direction": either(one_of("maximize", "minimize"), null),
    "data.root": rule_of("path"),
    "data.val_fraction": rule_of("number 0..0.9"),
    "data.target_labels": either(one_of("all"), rule_of("whole >= 0"), null),
    **{f"data.{views}.{key}": VIEWS[key] for views in ("augment", "jitter") for key in VIEWS},
    **{f"{group}.{key}": NETWORK[key] for group in ("backbone", "teacher") for key in NETWORK},
}


def rules_of(
    defaults: Mapping[str, Any], allowed: Mapping[str, Mapping[str, Rule]]
) -> dict[str, Rule]:
    """The rule of every dotted path that has one.

    Args:
        defaults: the config without a command's keys.
        allowed: what sections' own YAMLs say, by the section's path.
    """
    found = {**dict(_of_sections(defaults)), **BY_PATH}
    for section, rules in allowed.items():
        found |= {f"{section}.{key}": rule for key, rule in rules.items()}
    return found


def _of_sections(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Rule]]:
    """The rules of optimisers and phases, wherever they are."""
    keys = {*config}
    if keys.issuperset(OPTIMIZER):
        yield from ((f"{prefix}{key}", rule) for key, rule in OPTIMIZER.items())
    if keys.issuperset(LENGTHS):
        yield from ((f"{prefix}{key}", rule) for key, rule in PHASE.items())
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _of_sections(value, f"{prefix}{key}.")


def read_allowed(
    path: str, section: Any, keys: Mapping[str, Any], file: str
) -> tuple[dict[str, Rule], list[str]]:
    """What a section ``allowed`` says, and what is wrong with it.

    Args:
        path: of the section that it stands in.
        section: its content.
        keys: dotted keys of the section that it stands in.
        file: the YAML that a message names.
    """
    if not isinstance(section, dict):
        return {}, [f"{path}.allowed (in {file}) should be a section: a key and {PHRASES} each."]
    rules: dict[str, Rule] = {}
    problems = []
    for key, given in section.items():
        if key not in keys:
            problems.append(
                f"{path}.allowed (in {file}): there is no key {path}.{key}.{nearest(key, keys)}"
            )
            continue
        try:
            rules[key] = rule_of(given)
        except ValueError:
            problems.append(
                f"{path}.allowed (in {file}): {key}: {given!r} is no rule. Write {PHRASES}."
            )
    return rules, problems
