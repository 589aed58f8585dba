"""TCA: components in which the domains' means meet and the variance stays.

Pan, Tsang, Kwok & Yang, "Domain Adaptation via Transfer Component Analysis", IEEE Transactions on
Neural Networks 2011, eq. 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tl_runner.methods.features._base import Domains
from tl_runner.methods.features._components import TransferComponents, means_apart, shared


class TCA(TransferComponents):
    """L is that of the MMD between the domains, 1/N^2, 1/M^2 and -1/(NM)."""

    def components(self, x: Tensor, domains: Domains, k: int) -> Tensor:
        source = torch.arange(len(x), device=x.device) < len(domains.source)
        return shared(x, means_apart(source, ~source), self.mu, k)
