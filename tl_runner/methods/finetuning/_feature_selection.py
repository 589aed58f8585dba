"""Selection of the features that a linear probe sees, by its labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tl_runner import randomness
from tl_runner.errors import ConfigError, one_of
from tl_runner.metrics.features import METHODS, chosen

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureSelection:
    """Features (N, d) and labels (N,) to the features that count, bool (d,).

    Attributes:
        by: ``l1`` or ``mutual_information``.
        keep: the share of the features that is chosen.
        seed: of the run.

    Raises:
        ConfigError: no such ``by``; when called, labels that are too few for the estimate.
    """

    by: str
    keep: float
    seed: int

    def __post_init__(self) -> None:
        one_of("method.select", self.by, METHODS)

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.by == "mutual_information" and labels.bincount().max() < 2:
            raise ConfigError(
                [
                    "method.select=mutual_information needs two labelled images of a class: raise "
                    "data.target_labels, or take l1."
                ]
            )
        number = max(1, round(self.keep * features.shape[1]))
        seed = randomness.derive(self.seed, "select") % 2**32
        found = chosen(self.by, features.cpu().numpy(), labels.cpu().numpy(), number, seed)
        return torch.from_numpy(found).to(features.device)

    def findings(self, head: nn.Linear) -> dict[str, Any]:
        """The features that a head has weights of, for the record."""
        seen = (head.weight != 0).any(0)
        return {"features": {"of": len(seen), "seen": seen.nonzero().squeeze(1).tolist()}}
