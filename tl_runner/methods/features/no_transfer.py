"""No transfer: the learner on features as they are. The floor of the methods on features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import ConfigError, one_of
from tl_runner.methods.features._base import OnFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains
    from tl_runner.methods.setting import Setting

LEARN_FROM = ("both", "source", "target")


class NoTransfer(OnFeatures):
    """The learner alone, on the features that it is given.

    Args:
        learn_from: ``both``, the source's samples and those of the target that have a label, all
            alike; ``source``; ``target``, the labelled ones alone.
    """

    def __init__(self, setting: Setting, *, learn_from: str, **options: Any):
        super().__init__(setting, **options)
        one_of("method.learn_from", learn_from, LEARN_FROM)
        self.learn_from = learn_from
        if learn_from == "target" and not setting.labelled and not setting.deployed:
            raise ConfigError(
                [
                    "method.learn_from=target needs labels of the target: set data.target_labels "
                    "to a number a class, or to all."
                ]
            )

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        if self.learn_from == "source":
            return self.learn(domains.source, domains.y)
        if self.learn_from == "target":
            assert domains.labelled is not None
            assert domains.labelled_y is not None
            return self.learn(domains.labelled, domains.labelled_y)
        return self.learn(*domains.with_labelled(domains.source, domains.labelled))
