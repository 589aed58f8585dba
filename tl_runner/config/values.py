"""What a value may be. The YAML default is the type; the rules below add ranges and choices by key
name.

A rule holds for a key of that name anywhere (``lr`` in any optimiser, in a user's own method too);
a longer dotted ending wins over a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tl_runner.errors import nearest
from tl_runner.metrics.selection_rules import RULES as SELECTION

Rule = Callable[[Any], str | None]  # a value -> what it should have been, or None when it is fine


def number(
    low: float, high: float = float("inf"), *, whole: bool = False, open_low: bool = False
) -> Rule:
    """A number in [low, high], or (low, high] with ``open_low``."""
    kind = "a whole number" if whole else "a number"
    span = f"{'above' if open_low else 'of at least'} {low:g}" + (
        f" and at most {high:g}" if high < float("inf") else ""
    )

    def check(value: Any) -> str | None:
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        return (
            None
            if right and (low < value if open_low else low <= value) and value <= high
            else f"{kind} {span}"
        )

    return check


def one_of(*options: Any) -> Rule:
    """One of a few values; names get the nearest."""

    def check(value: Any) -> str | None:
        if any(value == o and type(value) is type(o) for o in options):
            return None
        shown = ", ".join(
            "true" if o is True else "false" if o is False else str(o) for o in options
        )
        return f"one of {shown}." + nearest(value, [str(o) for o in options])

    return check


def either(*rules: Rule) -> Rule:
    """Any of several rules."""

    def check(value: Any) -> str | None:
        said = [rule(value) for rule in rules]
        if None in said:
            return None
        parts = [str(s).partition(" Did you mean") for s in said]  # what was meant comes last
        hints = [mark + word for _, mark, word in parts if mark]
        return " or ".join(text.rstrip(".") for text, _, _ in parts) + (
            "." + hints[0] if hints else ""
        )

    return check


def null(value: Any) -> str | None:
    """YAML's null."""
    return None if value is None else "null"


def pair(rule: Rule) -> Rule:
    """A list of two values that each keep ``rule``."""

    def check(value: Any) -> str | None:
        fine = isinstance(value, list) and len(value) == 2 and all(rule(v) is None for v in value)
        return None if fine else f"a list of two: {rule(object())} each"

    return check


def all_in(rule: Rule) -> Rule:
    """A list of values that each keep ``rule``."""

    def check(value: Any) -> str | None:
        return (
            None
            if isinstance(value, list) and all(rule(v) is None for v in value)
            else f"a list: {rule(object())} each"
        )

    return check


def some_of(*options: str) -> Rule:
    """A list of one or more of a few names, each once."""

    def check(value: Any) -> str | None:
        fine = (
            isinstance(value, list)
            and value
            and all(v in options for v in value)
            and len({*value}) == len(value)
        )
        return None if fine else f"a list of one or more of {', '.join(options)}, each once"

    return check


def device(value: Any) -> str | None:
    """A device name, with or without an index."""
    kind, _, index = str(value).partition(":")
    fine = kind in ("auto", "cpu", "cuda", "mps") and (
        not index or (kind == "cuda" and index.isdigit())
    )
    return (
        None
        if fine
        else "one of auto, cpu, cuda, cuda:N, mps." + nearest(value, ["auto", "cpu", "cuda", "mps"])
    )


def folder(value: Any) -> str | None:
    """A path."""
    return None if isinstance(value, str) and value else "a path"


def frozen(value: Any) -> str | None:
    """How many blocks, the names of some, or all."""
    named = isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(v, str | int) for v in value)
    )
    return (
        None
        if named or number(0, whole=True)(value) is None
        else "a number of blocks, a list of their names, or all"
    )


def widths(value: Any) -> str | None:
    """A list of whole numbers."""
    fine = (
        isinstance(value, list) and value and all(number(1, whole=True)(v) is None for v in value)
    )
    return None if fine else "a list of whole numbers of at least 1"


def words(value: Any) -> str | None:
    """Names, each once."""
    fine = (
        isinstance(value, list)
        and value
        and all(isinstance(v, str) for v in value)
        and len({*value}) == len(value)
    )
    return None if fine else "a list of names, each once"


def names(value: Any) -> str | None:
    """Two or more different names."""
    fine = isinstance(value, list) and len({str(v) for v in value}) == len(value) >= 2
    return None if fine else "a list of two or more different names"


def domains(value: Any) -> str | None:
    """The name of a domain, or a list of different ones; a dotted name is a user's own module."""
    known = sorted(
        file.stem for file in (Path(__file__).parent.parent / "data" / "domains").glob("[!_]*.py")
    )
    listed = value if isinstance(value, list) else [value]
    kind = f"a domain or a list of different ones, of {', '.join(known)}"
    if (
        not listed
        or not all(isinstance(name, str) for name in listed)
        or len({*listed}) < len(listed)
    ):
        return kind
    unknown = [name for name in listed if name not in known and "." not in name]
    return kind + "." + "".join(nearest(name, known) for name in unknown) if unknown else None


count, at_least_0, part = number(1, whole=True), number(0), number(0, 0.9)
RULES: dict[str, Rule] = {
    "seed": number(0, whole=True),
    "selection": one_of(*SELECTION),
    "epochs": count,
    "steps_per_epoch": either(null, count),
    "pretrain.epochs": number(0, whole=True),
    "batch_size": count,
    "limit.epochs": either(null, count),
    "limit.steps": either(null, count),
    "limit.samples": either(null, count),
    "lr": number(0, open_low=True),
    "weight_decay": at_least_0,
    "momentum": number(0, 0.9999),
    "betas": pair(number(0, 0.9999999)),
    "schedule": one_of("constant", "linear", "cosine", "step", "inverse"),
    "milestones": all_in(number(0, 1)),
    "gamma": number(0, 1),
    "clip_norm": either(null, number(0, open_low=True)),
    "max_norm": either(null, number(0, open_low=True)),
    "accumulate": count,
    "ema": either(null, number(0, 0.999999)),
    "patience": either(null, count),
    "balance": either(null, one_of("sampling", "weights")),
    "mixup": at_least_0,
    "cutmix": at_least_0,
    "warmup": number(0, 1),
    "optimizer.name": one_of("adam", "adamw", "sgd"),
    "discriminator_optimizer.name": one_of("adam", "adamw", "sgd"),
    "reconstruction_optimizer.name": one_of("adam", "adamw", "sgd"),
    "method.teacher": either(null, folder, names),
    "teacher_seed": either(null, number(0, whole=True)),
    "teachers": number(2, whole=True),
    "generations": count,
    "form": one_of("code", "paper"),
    "label_weight": at_least_0,
    "distance_weight": at_least_0,
    "angle_weight": at_least_0,
    "start_weight": at_least_0,
    "end_weight": at_least_0,
    "rise": number(0, 1),
    "leave_out": all_in(number(0, whole=True)),
    "student_layers": either(null, words),
    "teacher_layers": either(null, words),
    "teacher.weights": either(null, folder),
    "teacher.hidden": widths,
    "input_dropout": number(0, 0.99),
    "bn": one_of("concat", "separate", "domain_specific", "frozen"),
    "weight": at_least_0,
    "pseudo_weight": at_least_0,
    "method.layers": some_of("features", "logits"),
    "kernels": count,
    "kernel_ratio": number(1, open_low=True),
    "estimator": one_of("unbiased", "linear"),
    "rank": count,
    "backbone.weights": either(null, folder),
    "new_head": either(null, one_of(True, False)),
    "freeze": frozen,
    "attention": one_of(True, False),
    "ways": number(2, whole=True),
    "shots": count,
    "queries": count,
    "training.ways": either(null, number(2, whole=True)),
    "training.shots": either(null, count),
    "training.queries": either(null, count),
    "tasks.val": number(2, whole=True),
    "tasks.test": number(2, whole=True),
    "images": number(2, whole=True),
    "classes.val": number(2, whole=True),
    "classes.test": number(2, whole=True),
    "val_classes": number(2, 1000, whole=True),
    "amplitude": pair(number(-1e6)),
    "phase": pair(number(-1e6)),
    "data.x": pair(number(-1e6)),
    "filters": count,
    "method.bn": one_of("transductive", "support", "running"),
    "task_batching": one_of("auto", "vmap", "loop"),
    "chunk": either(null, count),
    "inner.steps": number(1, whole=True),
    "inner.every_step": one_of(True, False),
    "inner.rate": number(0, open_low=True),
    "inner.test_steps": number(0, whole=True),
    "inner.test_rate": either(null, number(0, open_low=True)),
    "inner.optimizer": one_of("sgd", "adam"),
    "inner.batch": either(null, count),
    "weighting": one_of(
        "equal",
        "uncertainty",
        "dwa",
        "gradnorm",
        "pcgrad",
        "average",
        "agreement",
        "validation",
        "gate",
    ),
    "asymmetry": at_least_0,
    "weight_rate": number(0, open_low=True),
    "tasks": either(null, words),
    "select": either(null, one_of("l1", "mutual_information")),
    "keep": number(0, 1, open_low=True),
    "mix": number(0, 1),
    "points": number(2, whole=True),
    "layer_decay": number(0, 1, open_low=True),
    "head_rate": number(0, open_low=True),
    "regulariser": either(null, one_of("l2_sp", "l1_sp", "bss")),
    "alpha": at_least_0,
    "beta": at_least_0,
    "random_map": either(null, number(0, whole=True)),
    "temperature": number(0, open_low=True),
    "agree_steps": count,
    "noise": number(0, 0.99),
    "root": folder,
    "cache.phases": one_of("auto", True, False),
    "cache.dir": folder,
    "data.source": domains,
    "data.target": domains,
    "data.of": domains,
    "data.size": number(8, 512, whole=True),
    "data.channels": one_of(1, 3),
    "photos": folder,
    "target_dir": folder,
    "source_dir": either(null, folder),
    "target_classes": either(null, names),
    "source_classes": either(null, names),
    "target_file": folder,
    "source_file": either(null, folder),
    "backbone.hidden": widths,
    "fit": one_of("crop", "stretch"),
    "test_fraction": part,
    "source_test_fraction": part,
    "unreadable": one_of("fail", "skip"),
    "workers": number(0, whole=True),
    "protocol": one_of("full", "sampled"),
    "transductive": one_of(True, False),
    "usps_split": one_of("official", "random"),
    "val_fraction": part,
    "target_labels": either(one_of("all"), number(0, whole=True)),
    "per_face": count,
    "rotate": number(0, 180),
    "shear": number(0, 80),
    "translate": number(0, 1),
    "scale": number(0, 10),
    "stretch": number(0, 10),
    "flip": number(0, 1),
    "brightness": number(0, 1),
    "contrast": number(0, 1),
    "saturation": number(0, 1),
    "dropout": number(0, 0.99),
    "label_smoothing": number(0, 0.99),
    "device.name": device,
    "precision": one_of("fp32", "tf32", "bf16", "fp16"),
    "channels_last": one_of("auto", True, False),
    "threads": either(null, count),
    "discriminator_input": one_of("logits", "features"),
    "hidden": count,
    "gate": number(0, 1),
    "sweep.trials": count,
    "sweep.random": number(0, whole=True),
    "sweep.at_once": count,
    "sweep.direction": either(one_of("maximize", "minimize"), null),
    "gate_window": count,
    "learner": one_of("1nn", "logistic", "svm", "ridge", "mlp"),
    "target_share": number(0.01, 0.99),
    "stages": one_of(1, 2),
    "method.steps": number(2, whole=True),
    "method.folds": number(2, whole=True),
    "learn_from": one_of("both", "source", "target"),
    "strength": number(0, open_low=True),
    "method.scale": either(null, one_of("unit", "standard", "each")),
    "method.gamma": either(null, number(0, open_low=True)),
    "features.epochs": number(0, whole=True),
    "dimensions": count,
    "mu": number(0, open_low=True),
    "kernel": one_of("linear", "rbf"),
    "landmarks": either(null, number(2, whole=True)),
    "unit": one_of(True, False),
    "rounds": count,
    "ridge": number(0, open_low=True),
    "bound": number(1),
    "slack": either(null, at_least_0),
    "centres": count,
    "method.widths": all_in(number(0, open_low=True)),
    "plan_entropy": number(0, open_low=True),
    "class_weight": at_least_0,
    "pivots": count,
    "share": at_least_0,
    "decay": number(0, open_low=True),
}


def rule_for(path: str) -> Rule | None:
    """The rule with the longest ending of the dotted ``path``."""
    parts = path.split(".")
    return next(
        (RULES[key] for i in range(len(parts)) if (key := ".".join(parts[i:])) in RULES), None
    )


def wrong_type(value: Any, default: Any) -> str | None:
    """What ``value`` should have been to match the YAML's ``default``, or None. A null default
    takes anything."""
    if default is None or (value is None and default is None):
        return None
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a group",
    }
    want = type(default)
    if want is float and type(value) is int:
        return None
    return None if type(value) is want else kinds.get(want, want.__name__)


def problem(path: str, value: Any, default: Any) -> str | None:
    """One line that says what is wrong with ``value`` at ``path`` and what would be right, or
    None."""
    rule = rule_for(path)
    said = rule(value) if rule else wrong_type(value, default)
    if said is None:
        return None
    shown = "null" if value is None else repr(value)
    return f"{path}={shown} should be {said}" + ("" if said.endswith(("?", ".")) else ".")
