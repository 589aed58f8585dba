"""Bases for methods of one's own, which say a part of a fit instead of the whole.

The methods that come with the package say :meth:`OnFeatures.fit`, so that each is read in one file.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from tl_runner.methods.features._base import OnFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains


class Aligned(OnFeatures):
    """Base of methods that bring both domains to one space by a matrix each."""

    @abstractmethod
    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        """The maps, as :meth:`learn_aligned` takes them."""

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        return self.learn_aligned(domains, self.align(domains))


class Weighted(OnFeatures):
    """Base of methods that weigh the source's samples."""

    weighted = True

    @abstractmethod
    def weights(self, domains: Domains) -> Tensor:
        """The weights of the source's samples, (N,), not negative, of any mean."""

    def fit(self, domains: Domains) -> Mapping[str, Tensor]:
        return self.learn_weighted(domains, self.weights(domains))
