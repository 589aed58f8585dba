"""Settings that are right one by one and cannot run together. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tl_runner import plugins
from tl_runner.config.conflicts_of_episodes import impossible_tasks
from tl_runner.config.conflicts_of_teachers import impossible_teaching
from tl_runner.config.overrides import listed, text_of, walk
from tl_runner.errors import nearest
from tl_runner.metrics.selection_rules import RULES as SELECTION

BEFORE = ("pretrain", "teach")  # phases of plain classification, before a method's own


def impossible(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that are right one by one and cannot run together."""
    for group in ("method", "data", "backbone"):
        if not isinstance(config.get(group), dict) or not isinstance(
            config[group].get("name"), str
        ):
            yield (
                f"{group}: its YAML must be keys and values with a name, the module that it "
                "stands for."
            )
            return
    if message := unknown_backbone(config["backbone"]):
        yield message
    for group in ("method", "data", "backbone"):
        if "module" not in config[group] and plugins.not_installed(name := config[group]["name"]):
            yield (
                f"{group}.name={name}: there is no package {name.partition('.')[0]}. It has to be "
                "installed or on PYTHONPATH."
            )
    data, method = config["data"], config["method"]
    if any(not isinstance(x, list) for x in (data.get("gives", []), method.get("needs", []))):
        yield "data.gives and method.needs should be lists, such as [source, target]."
        return
    if both := {*listed(data.get("source"))} & {*listed(data.get("target"))}:
        yield (
            f"data.source and data.target both name {', '.join(sorted(both))}: a domain is "
            "either source or target."
        )
    for path, value in walk({key: config[key] for key in ("data", "backbone", "method")}):
        if value == "???":
            yield f"{path} has no value, and this choice cannot do without: set {path}=..."
    yield from unmet(config)
    if "source_val" in SELECTION[config["selection"]].needs and data.get("val_fraction") == 0:
        yield (
            f"selection={config['selection']} needs source images to validate on: set "
            "data.val_fraction above 0."
        )
    single = any(
        v == 1 for k, v in walk(config) if k.endswith("batch_size")
    ) and "episodes" not in method.get("needs", ())  # one task
    if config["backbone"].get("batch_norm") and single:
        yield (
            "batch_size=1 and batch norm: one image has no batch statistics. Use at least 2, or "
            "backbone.batch_norm=false."
        )
    if (
        config["backbone"].get("batch_norm") is False
        and config["backbone"].get("bn", "separate") != "separate"
    ):
        yield (
            f"backbone.bn={config['backbone']['bn']} is about batch norm, and "
            "backbone.batch_norm=false has none. Leave one of them out."
        )
    given = config["backbone"].get("weights")
    if config["backbone"].get("bn") == "frozen" and _pretrain_epochs(method) == 0 and not given:
        yield (
            "backbone.bn=frozen keeps the statistics of the pretraining, and "
            "method.pretrain.epochs=0 leaves that out. Choose one, or give a network that has "
            "statistics: backbone.weights."
        )
    if data.get("transductive") and data.get("target_labels") == "all":
        yield (
            "data.transductive=true tests on target images without labels, and "
            "data.target_labels=all leaves none. Choose one."
        )
    yield from impossible_views(config)
    yield from impossible_teaching(config)
    for path, size, parts in cut_batches(config["method"]):
        if size % parts:
            yield (
                f"method.{path}.accumulate={parts} does not divide batch_size={size}, and its "
                "parts must be equal."
            )
        elif size == parts > 1 and config["backbone"].get("batch_norm"):
            yield (
                f"method.{path}.accumulate={parts}: parts of one image, which has no batch "
                f"statistics. Use at most {size // 2}."
            )
    if {"pairs", "triples"} & {*method.get("needs", ())}:
        yield from cut_pairs(method)
    yield from impossible_tasks(config)
    device = config["device"]
    if device["name"] == "cpu" and device["precision"] in ("tf32", "fp16"):
        yield (
            f"device.precision={device['precision']} needs a GPU; on device=cpu choose fp32 or "
            "bf16."
        )
    if device["name"] in ("cpu", "mps") and device["cuda_graphs"]:
        yield f"device.cuda_graphs=true needs device=cuda, not {device['name']}."


def impossible_views(config: Mapping[str, Any]) -> Iterator[str]:
    """Views of frozen features that nothing would draw, or read."""
    views = config["backbone"].get("views", 0)
    if not config["backbone"].get("frozen") or not isinstance(views, int) or not views:
        return
    if not any(config["data"].get("augment", {}).values()):
        yield (
            f"backbone.views={views}: all views of this data are the picture itself. Say what "
            "differs between them, such as data.augment.flip=0.5, or leave it out."
        )


def cut_pairs(method: Mapping[str, Any]) -> Iterator[str]:
    """Phases of a method that compares the samples of a batch, which would compare parts of it."""
    for path, size, parts in cut_batches(method):
        if parts > 1 and path not in BEFORE:
            yield (
                f"method.{path}.accumulate={parts}: the loss of method={method['name']} couples "
                "the samples of a batch, so a batch in parts would have another. Set "
                f"method.{path}.accumulate=1, and a smaller method.{path}.batch_size than {size}."
            )


def other_classes(config: Mapping[str, Any]) -> Iterator[str]:
    """Classes that only one domain is given, for a method that moves knowledge of the same ones."""
    data, method = config["data"], config["method"]
    source, target = data.get("source_classes"), data.get("target_classes")
    if not isinstance(source, list) or not isinstance(target, list):
        return  # then the files say which there are
    if {"source", "target"} <= {*method.get("needs", ())} and {*source} != {*target}:
        yield (
            f"method={method['name']} needs the same classes in source and target, and "
            f"data.source_classes={text_of(source)} and data.target_classes={text_of(target)} "
            "are not. method=finetune and others of model transfer go on to new classes."
        )


def unknown_backbone(section: Mapping[str, Any]) -> str | None:
    """What is wrong with a backbone's name that is no module of ours and none of the user's."""
    name, known = section["name"], plugins.choices("backbones")
    if "module" in section or "." in name or name in known:
        return None
    return (
        f"backbone.name={name}: there is no such backbone of tl-run's.{nearest(name, known)} The "
        f"models of torchvision have a backbone of their own: backbone=torchvision "
        f"backbone.name={name}."
    )


def unmet(config: Mapping[str, Any]) -> Iterator[str]:
    """What the method needs and the data or the backbone does not have."""
    data, method, known = config["data"], config["method"], needs(config)
    yield from other_classes(config)
    unnamed = unnamed_source(data)
    for need in method.get("needs", ()):
        missing = unnamed if need == "source" else None
        otherwise = f"needs a {need} domain" + (
            f": set data.{missing}." if missing else ", which this data does not have."
        )
        met, otherwise = known.get(need, (need in data.get("gives", ()) and not missing, otherwise))
        if not met:
            yield f"method={method['name']} {otherwise}"


def cut_batches(method: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(section, batch size, parts) of every phase."""
    for path, section in walk(method):
        size, parts = (
            section.get(key) if isinstance(section, dict) else None
            for key in ("batch_size", "accumulate")
        )
        if isinstance(size, int) and isinstance(parts, int) and parts > 0:
            yield path, size, parts


def unnamed_source(data: Mapping[str, Any]) -> str | None:
    """The key that would name this data's source and is null; None too where it can have none."""
    if "source" not in data.get("gives", ()):
        return None
    keys = ["source_dir"] if "source_dir" in data else ["source_file", "source_classes"]
    if data.get("domain") and data["source_file"] is None:  # one file holds both
        keys = ["source"]
    return next((key for key in keys if key in data and data[key] is None), None)


def needs(config: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """What a method may need beside domains, by the word in its YAML: whether it is there, and what
    to say if not."""
    data, backbone, sizes = (
        config["data"],
        config["backbone"],
        [v for k, v in walk(config["method"]) if k.endswith("batch_size")],
    )
    return {
        "target_labels": (
            bool(config["data"].get("target_labels")),
            "learns from target labels: set data.target_labels to a number a class, or to all.",
        ),
        "pretrain": (
            _pretrain_epochs(config["method"]) != 0,
            "begins with a trained source classifier: set method.pretrain.epochs to at least 1.",
        ),
        "start": (
            _pretrain_epochs(config["method"]) == 0
            or ("source" in data.get("gives", ()) and not unnamed_source(data)),
            "begins with a network trained on a source, which this data does not name: "
            f"{f'set data.{named}' if (named := unnamed_source(data)) else 'take other data'}, "
            "or set method.pretrain.epochs=0.",
        ),
        "tasks": (
            "tasks" in data.get("gives", ()),
            "learns several tasks on the same images, which this data does not have: "
            "data=multitask_digits has.",
        ),
        "episodes": (
            "episodes" in data.get("gives", ()),
            "learns from few-shot tasks, which this data does not have: data=glyphs, "
            "data=omniglot and data=sinusoid have.",
        ),
        "classes": (
            "ways" in data,
            "tells classes apart, and the tasks of this data ask for a number: data=glyphs and "
            "data=omniglot have classes.",
        ),
        "pairs": (
            1 not in sizes,
            "compares the images of a batch with each other: batch_size=1 is too few.",
        ),
        "triples": (
            config["method"].get("distil", {}).get("batch_size", 3) > 2,
            "compares angles between three images of a batch: method.distil.batch_size should be "
            "at least 3.",
        ),
        "batch_statistics": (
            backbone.get("batch_norm") is not False and backbone.get("bn") != "frozen",
            "replaces batch norm's statistics: "
            + (
                "backbone.bn=frozen would keep them."
                if backbone.get("bn") == "frozen"
                else "set backbone.batch_norm=true."
            ),
        ),
    }


def _pretrain_epochs(method: Mapping[str, Any]) -> Any:
    phase = method.get("pretrain")
    return phase.get("epochs") if isinstance(phase, dict) else None
