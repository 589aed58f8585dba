"""Shift of some classes' logits that makes their predictions as frequent as they should be.

Not for test images: it looks at how many there are of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

ROUNDS = 10  # where several classes are shifted, each moves the others' margins


def shifts_to_prior(logits: Tensor, shares: Mapping[int, float]) -> Tensor:
    """Shift of each class's logit at which its share of the images has it as the largest.

    float64 (len(shares),).

    A class is answered where its logit exceeds the largest other one, so its shift is the quantile
    of that margin: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2014,
    section 3, choose it on the test set.

    Args:
        logits: (N, K).
        shares: by class, in [0, 1].
    """
    logits, moved = (
        logits.double().clone(),
        torch.zeros(len(shares), dtype=torch.float64, device=logits.device),
    )
    for _ in range(ROUNDS if len(shares) > 1 else 1):
        for i, (c, share) in enumerate(shares.items()):
            others = logits.index_fill(1, torch.tensor([c], device=logits.device), -torch.inf).amax(
                1
            )
            margins, wanted = (others - logits[:, c]).sort().values, round(share * len(logits))
            move = margins[max(0, wanted - 1) : wanted + 1].mean()
            logits[:, c] += move
            moved[i] += move
    return moved
