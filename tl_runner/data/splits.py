"""Split, the samples of one part of a data set, and how splits are cut and joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tl_runner.data.rows import chained, moved, taken
from tl_runner.errors import DataError


@dataclass(frozen=True)
class Split:
    """Samples of one split.

    Attributes:
        x: images, uint8 (N, C, H, W); feature vectors, float32 (N, d, 1, 1); or tokens of texts,
            int32 (N, L, 1, 1), -1 behind the last. Of many pictures
            :class:`~tl_runner.data.rows.Rows`, which are read when they are indexed.
        y: class indices, int64 (N,), or numbers, float32 (N,), where one is asked for; None where
            labels are not for the method's eyes.
        ids: each sample's position in its original file or drawing order, int64 (N,).
        domain: which of several sources or targets each sample is from, int64 (N,); None where
            there is one.
        also: labels of further tasks on the same samples, by name: int64 (N,), or float32 (N,)
            where a number is asked for.
        views: features of k random views of each sample, float32 (N, k, d, 1, 1), of which batches
            take one at random; None: batches take ``x``, or views of it.
    """

    x: Tensor
    y: Tensor | None
    ids: Tensor
    domain: Tensor | None = None
    also: Mapping[str, Tensor] = field(default_factory=dict)
    views: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, channels_last: bool = False) -> Split:
        """The split on ``device``."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return self._with(moved(self.x, device, layout), lambda values: values.to(device))

    def take(self, index: Tensor) -> Split:
        """Split of the samples at ``index``, in that order."""
        return self._with(taken(self.x, index), lambda values: values[index])

    def without_labels(self) -> Split:
        """Split of the same samples; the labels are gone, not hidden."""
        return replace(self, y=None, also={})

    def _with(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Split:
        """Split of other images, and ``change`` made to what goes with each of them."""
        y, domain, views = (
            None if values is None else change(values)
            for values in (self.y, self.domain, self.views)
        )
        also = {name: change(values) for name, values in self.also.items()}
        return Split(x, y, change(self.ids), domain, also, views)


def without(split: Split, classes: Sequence[int]) -> Split:
    """Samples of a labelled split that are of none of these classes; of any other split all."""
    if not classes or split.y is None:
        return split
    return split.take(
        (~torch.isin(split.y, torch.tensor(classes, device=split.y.device))).nonzero().squeeze(1)
    )


def joined(splits: Sequence[Split]) -> Split:
    """Samples of several domains one after the other, each with the domain's number.

    A single one as it is.
    """
    if len(splits) == 1:
        return splits[0]
    labels = [split.y for split in splits if split.y is not None]
    return Split(
        chained([split.x for split in splits]),
        torch.cat(labels) if len(labels) == len(splits) else None,
        torch.cat([split.ids for split in splits]),
        torch.arange(len(splits)).repeat_interleave(torch.tensor([len(split) for split in splits])),
    )


def hold_out(size: int, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random (kept, held out) indices of ``size`` samples, each sorted.

    The second has ``fraction`` of them.
    """
    order = torch.randperm(size, generator=generator)
    n = round(size * fraction)
    return order[n:].sort().values, order[:n].sort().values


def labelled_rows(split: Split) -> Tensor:
    """Positions of the samples that have a label: no class below 0, no NaN; none without ``y``."""
    if split.y is None:
        return torch.arange(0)
    has = ~split.y.isnan() if split.y.is_floating_point() else split.y >= 0
    return has.nonzero().squeeze(1)


def budget(split: Split, target_labels: int | str | None) -> int | str:
    """How many labels training may see: ``target_labels``, or where that is None all that there are
    of samples of which some have one and some have none, and 0 of others."""
    if target_labels is not None:
        return target_labels
    return "all" if 0 < len(labelled_rows(split)) < len(split) else 0


def see_labels(
    split: Split, target_labels: int | str, generator: torch.Generator
) -> dict[str, Split]:
    """Target's training splits for a label budget (``data.target_labels``).

    Returns ``target_train`` without labels, and for a budget above 0 also ``target_labelled``:
    ``target_labels`` samples of each class, of numbers so many in all, or every sample for ``all``.
    Samples without a label are in the first alone.

    Raises:
        DataError: labels are asked for, and no sample has one.
    """
    splits = {"target_train": split.without_labels()}
    if not target_labels:
        return splits
    rows = labelled_rows(split)
    if not len(rows):
        raise DataError(
            f"data.target_labels={target_labels}: the target's training samples have no labels. "
            "Give some of them labels, or set data.target_labels=0 with a method that needs none, "
            "such as dann."
        )
    known = split if len(rows) == len(split) else split.take(rows)
    if target_labels == "all":
        return splits | {"target_labelled": known}
    assert known.y is not None
    order = torch.randperm(len(known), generator=generator)
    groups = (
        [order]
        if known.y.is_floating_point()
        else [order[known.y[order] == c] for c in known.y.unique()]
    )
    picks = [group[: int(target_labels)] for group in groups]
    return splits | {"target_labelled": known.take(torch.cat(picks).sort().values)}


def target_splits(
    target: Mapping[str, Split], labels: int | str, transductive: bool, generator: torch.Generator
) -> dict[str, Split]:
    """The target's splits: to adapt to, to learn from, to validate and to test on.

    Args:
        target: its parts ``train``, ``val`` and ``test``, as far as there are any.
        labels: the budget, as :func:`see_labels` takes it.
        transductive: without a test part, test on training samples whose label is not seen.
    """
    splits = see_labels(target["train"], labels, generator)
    if "target_labelled" in splits and "val" in target:
        splits["target_val"] = target["val"]
    test = target.get("test")
    if test is None and transductive:
        seen = splits["target_labelled"].ids if "target_labelled" in splits else torch.arange(0)
        hidden = target["train"].take(labelled_rows(target["train"]))
        test = hidden.take((~torch.isin(hidden.ids, seen)).nonzero().squeeze(1))
    if test is not None and len(rows := labelled_rows(test)):
        splits["target_test"] = test if len(rows) == len(test) else test.take(rows)
    return splits
