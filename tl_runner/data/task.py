"""Task, one transfer problem as tensors, and its outline without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tl_runner.data.episodes import Episodes
from tl_runner.data.splits import Split
from tl_runner.errors import DataError, human_list

DARK = 128  # a domain without a brighter pixel is worth a word


@dataclass(frozen=True)
class Outline:
    """Facts of a task that a method is built from.

    The record keeps them, so that a run can be built again without its data.

    Attributes:
        classes, source_classes, sources: as a :class:`Task` has them; no classes: a number is asked
            for.
        shape: (C, H, W) of every image.
        inputs: (C, H, W) of the images that a frozen network made features of, whose shape is
            ``shape``; None: nothing stands before the method.
        labelled: whether there are labelled target images for training.
        reader: digest of what made tensors of texts; None: no texts were read.
        every_label: whether all of the target's training images are.
        splits: their names.
        also, scale, pixels: as a :class:`Task` has them.
    """

    classes: Sequence[str]
    shape: tuple[int, int, int]
    labelled: bool = False
    every_label: bool = False
    splits: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    source_classes: Sequence[str] | None = None
    also: Mapping[str, int] = field(default_factory=dict)
    scale: Mapping[str, Sequence[float]] | None = None
    pixels: Sequence[float] | None = None
    inputs: tuple[int, int, int] | None = None
    reader: str | None = None


@dataclass(frozen=True)
class Task:
    """One transfer problem: the splits of its domains and what they have in common.

    Attributes:
        name: what the user sees, such as ``mnist2usps``.
        classes: class names, in the order of the label indices; none where a number is asked for.
        splits: by name: ``source_train``, ``source_val``, ``source_test``, ``target_train``,
            ``target_test``; of several targets also ``target_test_<name>`` each.
        protocol: which samples and which split, in words, for the record.
        checksums: SHA-256 of every file that was read, by path.
        source_classes: class names of the source, where they are others than ``classes``.
        sources, targets: the domains' names, which ``Split.domain`` of a source's or a target's
            split counts in.
        also: the further tasks of the target's samples, and of how many classes each is; 0: of a
            number.
        scale: ``mean`` and ``deviation`` that feature vectors were standardised by, d numbers each;
            None: they were not.
        pixels: (low, high), what became 0 and 255 of the target's pictures of more than 8 bits;
            None: it has none.
        inputs: (C, H, W) of the images that a frozen network made the splits' features of; None:
            the splits hold what was read.
        reader: digest of what made tensors of texts; None: no texts were read.
        texts: of a task of texts, which the splits' ``x``, int64 (N, 1, 1, 1), are positions in
            until they are read for a backbone.
        files: by domain, the name of each sample, which ``Split.ids`` are positions in, for a table
            of predictions; empty where nobody would ask for one.
        passes: the most that an epoch goes over the samples that a phase adapts to; None: as many
            as ``train.steps_per_epoch`` comes to.
        notes: what the user should know of the data beside ``protocol``.
        every_label: whether all of the target's training images have labels that training may see;
            None: as the splits say.
        episodes: few-shot tasks by name: ``meta_train``, ``meta_val``, ``meta_test``; their
            ``classes`` are a task's.
    """

    name: str
    classes: Sequence[str]
    splits: dict[str, Split]
    protocol: str
    checksums: dict[str, str] = field(default_factory=dict)
    source_classes: Sequence[str] | None = None
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    also: Mapping[str, int] = field(default_factory=dict)
    scale: Mapping[str, Sequence[float]] | None = None
    pixels: Sequence[float] | None = None
    inputs: tuple[int, int, int] | None = None
    reader: str | None = None
    texts: Sequence[str] = ()
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passes: float | None = None
    notes: tuple[str, ...] = ()
    every_label: bool | None = None
    episodes: Mapping[str, Episodes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        peaks = {name: self._check(name, split) for name, split in self.splits.items()}
        object.__setattr__(self, "notes", tuple(dict.fromkeys([*self.notes, *self._dark(peaks)])))
        if self.every_label is None:  # of the data as it was read, whatever is left out of it later
            labelled, every = (self.splits.get(f"target_{part}") for part in ("labelled", "train"))
            object.__setattr__(
                self,
                "every_label",
                labelled is not None and every is not None and len(labelled) == len(every),
            )

    def _check(self, name: str, split: Split) -> int | None:
        """Refuse a split that does not fit the others; the brightest pixel of images."""
        if len(split) == 0:
            raise DataError(f"{self.name}: the split {name} has no images.")
        first = next(iter(self.splits.values())).x
        if (
            split.x.dtype not in (torch.uint8, torch.float32, torch.int32, torch.int64)
            or split.x.dtype != first.dtype
            or split.x.shape[1:] != first.shape[1:]
        ):
            raise DataError(
                f"{self.name}: {name} holds {split.x.dtype} images of {tuple(split.x.shape[1:])}, "
                f"the other splits {first.dtype} of {self.shape}. All domains must share one "
                "shape and range."
            )
        # Pixels of one domain in 0..1 and of the other in 0..255 cost published ports 10 to 15
        # points.
        peak = int(split.x.amax()) if split.x.dtype == torch.uint8 else None
        if peak is not None and peak <= 1:
            raise DataError(
                f"{self.name}: the brightest pixel of {name} is {peak} of 255. "
                "Scale the images of this domain to 0..255 like the others."
            )
        classes = (
            self.source_classes
            if self.source_classes and name.startswith("source")
            else self.classes
        )
        if (
            split.y is not None
            and not split.y.is_floating_point()
            and not (int(split.y.amin()) >= 0 and int(split.y.amax()) < len(classes))
        ):
            raise DataError(f"{self.name}: {name} has labels outside 0..{len(classes) - 1}.")
        return peak

    def _dark(self, brightest: Mapping[str, int | None]) -> Iterator[str]:
        """A note on a domain whose brightest pixel is far from white, with the domains' means."""
        peaks = {
            name.partition("_")[0]: peak
            for name, peak in brightest.items()
            if name in ("source_train", "target_train") and peak is not None
        }
        dark = [domain for domain, peak in peaks.items() if peak < DARK]
        if dark:
            means = human_list(
                f"the {d}'s mean is {self.splits[f'{d}_train'].x.numpy().mean():.0f}" for d in peaks
            )
            yield (
                f"the brightest pixel of the {human_list(dark)} is "
                f"{human_list(peaks[domain] for domain in dark)} of 255 ({means}): taken as it is. "
                "If these files are scaled otherwise than others, mend that first."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        if not self.splits:
            return next(iter(self.episodes.values())).shape
        c, h, w = next(iter(self.splits.values())).x.shape[1:]
        return c, h, w

    def samples(self) -> dict[str, Split]:
        """The splits, and those that few-shot tasks are drawn from."""
        drawn = {
            name: tasks.split for name, tasks in self.episodes.items() if tasks.split is not None
        }
        return self.splits | drawn

    def of(self, samples: Mapping[str, Split], **changes: Any) -> Task:
        """The task on other inputs of the same samples, which have the names of :meth:`samples`."""
        splits = {name: samples[name] for name in self.splits}
        episodes = {
            name: tasks.of(samples[name]) if name in samples else tasks
            for name, tasks in self.episodes.items()
        }
        return replace(self, splits=splits, episodes=episodes, **changes)

    def outline(self) -> Outline:
        """Outline of the task, without its images."""
        return Outline(
            classes=self.classes,
            shape=self.shape,
            labelled="target_labelled" in self.splits,
            every_label=bool(self.every_label),
            splits=(*self.splits, *self.episodes),
            sources=self.sources,
            source_classes=self.source_classes,
            also=self.also,
            scale=self.scale,
            pixels=self.pixels,
            inputs=self.inputs,
            reader=self.reader,
        )
