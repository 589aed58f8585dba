"""ANIL: MAML whose inner loop changes the head alone; the body learns in the outer loop.

Raghu, Raghu, Bengio & Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML", ICLR 2020, section 4.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tl_runner.methods.fewshot.maml import MAML, Weights


class ANIL(MAML):
    """As :class:`MAML`; a task's images pass through the body once, whatever the steps."""

    def start(self) -> Weights:
        return {name: p for name, p in self.named_parameters() if name.startswith("head.")}

    def sets(self, x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        return self.embed(x, asked)

    def outputs(self, weights: Weights, z: Tensor) -> Tensor:
        return F.linear(z, weights["head.weight"], weights["head.bias"])

    def asked(self, weights: Weights, z: Tensor, asked: Tensor) -> Tensor:
        return self.outputs(weights, asked)
