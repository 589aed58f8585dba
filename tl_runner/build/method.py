"""From a config and the outline of a task to the method on its backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner import plugins
from tl_runner.build._keys import check_keys
from tl_runner.build.backbone import maker
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Method
from tl_runner.methods.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from tl_runner.data.task import Outline

NO_ARGUMENTS = ("name", "needs", "search")  # keys of a method's YAML that are for others


def method_of(
    config: Mapping[str, Any],
    task: Outline,
    given: Sequence[nn.Module] = (),
    deployed: bool = False,
) -> Method:
    """The method on its backbone, on the CPU, with its first weights.

    Args:
        config: resolved.
        task: what it is built for.
        given: teachers that are trained already.
        deployed: the method is to predict, with weights that it is given afterwards.

    Raises:
        ConfigError: a module does not take the keys of its YAML; the method is not for such data.
    """
    method_class: type[Method] = plugins.class_in("methods/*", config["method"]["name"], Method)
    method_keys = {k: v for k, v in config["method"].items() if k not in NO_ARGUMENTS}
    check_keys(method_class, method_keys, "method")
    check_labels(method_class, config, task)
    check_classes(method_class, task)
    setting = setting_of(config, task, given, deployed)
    try:
        return method_class(setting, **method_keys)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise ConfigError(
            [
                "method: the keys of its YAML do not fit "
                f"{method_class.__module__}.{method_class.__name__}: {error}."
            ]
        ) from error


def setting_of(
    config: Mapping[str, Any], task: Outline, given: Sequence[nn.Module], deployed: bool
) -> Setting:
    """The setting that a config and a task make, for :func:`method_of`."""
    wants_teacher = "teacher" in config and not given and not deployed
    others, kept_views = task.source_classes, bool(config["backbone"].get("views"))
    return Setting(
        num_classes=len(task.classes),
        shape=task.shape,
        make_backbone=maker(config["backbone"], task.shape),
        seed=config["seed"],
        bn=config["backbone"].get("bn", "separate"),
        labelled=task.labelled,
        sources=task.sources,
        source_classes=None if others is None else len(others),
        also=task.also,
        splits=task.splits,
        every_label=task.every_label,
        views=any(config["data"].get("augment", {}).values())
        and (task.inputs is None or kept_views),
        kept_views=kept_views,
        make_teacher=maker(config["teacher"], task.shape, "teacher") if wants_teacher else None,
        given=given,
        deployed=deployed,
    )


def check_labels(method_class: type[Method], config: Mapping[str, Any], task: Outline) -> None:
    """Raise where a method is for classes and the labels are numbers, or the other way round."""
    if not task.classes and not method_class.numbers:
        raise ConfigError(
            [
                "this method tells classes apart, and the labels of this data are numbers (y is of "
                "floats). Store classes as integers or "
                f"names, or take backbone=raw and one of {', '.join(for_numbers())}."
            ]
        )
    if not task.classes and config["train"]["balance"]:
        raise ConfigError(
            [
                f"train.balance={config['train']['balance']} is of classes, and the labels of "
                "this data are numbers. Leave it out."
            ]
        )
    if task.classes and not method_class.classes:
        raise ConfigError(
            [
                f"method={config['method']['name']} predicts numbers, and the labels of this data "
                "are classes. data=arrays reads numbers: y of floats."
            ]
        )


def for_numbers() -> list[str]:
    """The methods of the package that can predict numbers."""
    kinds: dict[str, type[Method]] = {
        name: plugins.class_in("methods/*", name, Method) for name in plugins.choices("methods/*")
    }
    return [name for name, kind in kinds.items() if kind.numbers]


def check_classes(method_class: type[Method], task: Outline) -> None:
    """Raise where a method needs the same classes in both domains, and they differ."""
    if task.source_classes is None or method_class.other_classes:
        return
    alone = "; ".join(
        f"{', '.join(map(str, names))} only in the {domain}"
        for domain, names in differing(task).items()
    )
    raise ConfigError(
        [
            "this method needs the same classes in source and target, and they differ by name: "
            f"{alone}. method=finetune and others of model transfer go on to new classes."
        ]
    )


def differing(task: Outline) -> dict[str, list[str]]:
    """A few of the classes that only one domain has, by the domain that has them."""
    source, target = task.source_classes or task.classes, task.classes
    found = {"source": sorted({*source} - {*target}), "target": sorted({*target} - {*source})}
    return {domain: names[:5] for domain, names in found.items() if names}
