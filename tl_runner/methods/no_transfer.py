"""No transfer: the learner on the source's features, applied to the target's as they are. The floor of the methods on features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tl_runner.methods.on_features import Domains, OnFeatures


class NoTransfer(OnFeatures):
    """Of labelled target images the learner sees as well, each like one of the source."""

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        x, y = domains.source, domains.y
        if domains.labelled is not None and domains.labelled_y is not None:
            x, y = torch.cat([x, domains.labelled]), torch.cat([y, domains.labelled_y])
        return self.learned(x, y)
