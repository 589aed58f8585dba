"""The arithmetic of losses is done in float32 at least, whatever the networks run in."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """float32 at least. Under autocast a CPU leaves softmax and its relatives in bfloat16, whose
    three digits round away the small differences that these losses are made of: between near
    samples, between two heads, between a mean's entropy and log K.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
