"""The setting that a method is built for: the task, the networks, the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tl_runner import randomness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from tl_runner.backbones._base import Backbone


@dataclass(frozen=True)
class Setting:
    """The task, the networks and the seed that a method is built for.

    Attributes:
        num_classes: K, of the target; 0 where a number is asked for.
        shape: (C, H, W) of every image.
        make_backbone: a new backbone.
        seed: of the run.
        bn: how batch norm sees two domains: concat, separate, domain_specific, frozen.
        labelled: whether there are target images with labels for training, the split
            ``target_labelled``.
        sources: names of the source domains, in the order of ``Samples.domain``.
        source_classes: of the source, where its classes are others than the target's; None: they
            are the same.
        also: the further tasks of the target, and of how many classes each is; 0: of a number.
        splits: the names of those that the data has.
        every_label: whether all of the target's training images have labels that training may see.
        views: whether the images of a batch are random views.
        kept_views: whether they are views whose features were computed once.
        make_teacher: a new backbone of a teacher, where the config has one.
        given: teachers that are trained already.
        deployed: the method is made to predict, with weights that it has been given: what only
            training needs may be left out.
    """

    num_classes: int
    shape: tuple[int, int, int]
    make_backbone: Callable[[], Backbone]
    seed: int
    bn: str = "separate"
    labelled: bool = False
    sources: Sequence[str] = ()
    source_classes: int | None = None
    also: Mapping[str, int] = field(default_factory=dict)
    splits: Sequence[str] = ()
    every_label: bool = False
    views: bool = True
    kept_views: bool = False
    make_teacher: Callable[[], Backbone] | None = None
    given: Sequence[nn.Module] = ()
    deployed: bool = False

    def fresh(self, name: str, make: Callable[[], Any], seed: int | None = None) -> Any:
        """What ``make`` returns, its random numbers following from ``name`` and a seed alone.

        Args:
            seed: None: the run's.
        """
        with randomness.seeded(self.seed if seed is None else seed, "init", name):
            return make()
