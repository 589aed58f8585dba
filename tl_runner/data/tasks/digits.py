"""Tasks between domains of the ten digits: one or several sources, one or several targets.

Protocols: ``full`` uses every training image; ``sampled`` draws 2,000 of MNIST and 1,800 of USPS by
the run's seed, as CoGAN (Liu & Tuzel 2016) and ADDA (Tzeng et al. 2017) do, and 2,000 of any other
domain. Tests always use a whole test set.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tl_runner import plugins
from tl_runner.data import domains
from tl_runner.data.domain import Domain
from tl_runner.data.images import fitted
from tl_runner.data.splits import Split, hold_out, joined, see_labels
from tl_runner.data.task import Task
from tl_runner.errors import ConfigError, human_list, nearest

DIGITS = tuple("0123456789")


def load(
    *,
    source: str | Sequence[str],
    target: str | Sequence[str],
    root: str,
    download: bool,
    protocol: str,
    size: int,
    channels: int,
    val_fraction: float,
    target_labels: int | str,
    transductive: bool = False,
    seed: int,
    **own: Any,
) -> Task:
    """The task; ``seed`` draws the samples of the protocol and the held-out part.

    Args:
        source, target: names of the domains.
        root: the folder that holds every downloaded set.
        size, channels: what every image is brought to.
        target_labels: how many of each class, in each target, training may see.
        transductive: the target is tested on the images that training sees without labels, as the
            methods from before deep networks were.
        own: the keys of single domains.

    Raises:
        ConfigError: no such domain; one that is named twice; one whose own keys are not there.
        DataError: a file is missing, damaged or of the wrong size; or the download failed.
    """
    sources, targets = named(source, target)
    made = {name: build(name, own) for name in (*sources, *targets)}
    if others := [name for name, domain in made.items() if tuple(domain.classes) != DIGITS]:
        raise ConfigError(
            [f"data.source or data.target names {human_list(others)}, which is not of digits."]
        )
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, dict[str, Split]] = {"train": {}, "val": {}, "test": {}}
    checksums: dict[str, str] = {}
    for name, domain in made.items():
        images, parts["test"][name], sums = domain.read(Path(root).expanduser(), download, seed)
        sample = domain.sampled if protocol == "sampled" else None
        held_out = val_fraction if name in sources else 0.0
        parts["train"][name], parts["val"][name] = draw(images, sample, held_out, generator)
        checksums |= sums

    drawn = human_list(
        [f"{len(parts['train'][name]):,} {domain.title}" for name, domain in made.items()]
    )
    notes = [note for domain in made.values() for note in domain.notes()]
    if transductive:
        notes.append(
            "transductive: tested on the target's training images, whose labels training does not "
            "see"
        )
    if (size, channels) != (28, 1):
        notes.append(f"{size}x{size} in {'colour' if channels == 3 else 'grey'}")
    return Task(
        name=f"{sources[0]}2{targets[0]}"
        if len(made) == 2
        else f"{human_list(sources)} to {human_list(targets)}",
        classes=DIGITS,
        splits={
            role: joined([fitted(split, size, channels) for split in splits])
            for role, splits in roles(
                parts, sources, targets, target_labels, transductive, generator
            ).items()
        },
        protocol=", ".join([f"{protocol}: {drawn} training images", *notes]),
        checksums=checksums,
        sources=sources,
        targets=targets,
    )


def roles(
    parts: Mapping[str, Mapping[str, Split]],
    sources: Sequence[str],
    targets: Sequence[str],
    target_labels: int | str,
    transductive: bool,
    generator: torch.Generator,
) -> dict[str, list[Split]]:
    """Splits that each split of the task is made of.

    ``parts`` are the domains' splits, by train, val and test, then by name.
    """
    source = {
        f"source_{part}": [splits[name] for name in sources] for part, splits in parts.items()
    }
    if any(len(split) == 0 for split in source["source_val"]):
        del source["source_val"]
    seen = [see_labels(parts["train"][name], target_labels, generator) for name in targets]
    target = {role: [splits[role] for splits in seen] for role in seen[0]}
    tests = [parts["test"][name] for name in targets]
    if transductive:
        tests = [
            besides(parts["train"][name], found.get("target_labelled"))
            for name, found in zip(targets, seen, strict=True)
        ]
    target["target_test"] = tests
    each = (
        {f"target_test_{name}": [test] for name, test in zip(targets, tests, strict=True)}
        if len(targets) > 1
        else {}
    )
    return {**source, **target, **each}


def besides(images: Split, labelled: Split | None) -> Split:
    """Samples of ``images`` whose labels training does not see."""
    return (
        images
        if labelled is None
        else images.take((~torch.isin(images.ids, labelled.ids)).nonzero().squeeze(1))
    )


def named(
    source: str | Sequence[str], target: str | Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the sources and of the targets, each of them once."""
    sources, targets = (
        (names,) if isinstance(names, str) else tuple(names) for names in (source, target)
    )
    both = [name for name in sources if name in targets]
    if both:
        raise ConfigError(
            [
                f"data.source and data.target both name {human_list(both)}: a domain is either "
                "source or target."
            ]
        )
    for key, names in (("source", sources), ("target", targets)):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ConfigError(
                [
                    f"data.{key} names {human_list(twice) + ' twice' if twice else 'no domain'}: "
                    "name each domain once."
                ]
            )
    return sources, targets


def build(name: str, own: Mapping[str, Any]) -> Domain:
    """Domain of that name, with those of the keys ``own`` that it takes."""
    known = [module.name for module in pkgutil.iter_modules(domains.__path__)]
    if "." not in name and name not in known:
        raise ConfigError(
            [
                f"data.source or data.target names {name}: no such domain. There are "
                f"{human_list(known)}.{nearest(name, known)}"
            ]
        )
    kind = plugins.class_in("data/domains", name, Domain)
    keys = inspect.signature(kind).parameters
    missing = [f"data.{key}" for key in keys if key not in own]
    if missing:
        raise ConfigError(
            [
                f"the domain {name} needs {human_list(missing)}, which this data choice does not "
                f"have. Start from one that reads {name} (tl-run --help lists "
                "them), or write your own with --config-dir."
            ]
        )
    return kind(**{key: own[key] for key in keys})


def draw(
    images: Split, sample: int | None, val_fraction: float, generator: torch.Generator
) -> tuple[Split, Split]:
    """Training and validation samples.

    A sample leaves its size whole, as far as there are images, and validates on the rest.
    """
    if sample is None:
        kept, held_out = hold_out(len(images), val_fraction, generator)
        return images.take(kept), images.take(held_out)
    order = torch.randperm(len(images), generator=generator)
    extra = round(min(sample, len(images)) * val_fraction)
    sample = min(sample, len(images) - extra)
    return images.take(order[:sample].sort().values), images.take(
        order[sample : sample + extra].sort().values
    )
