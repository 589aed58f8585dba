"""Losses between an encoder and a domain discriminator (binary, one logit; source = 1, target = 0)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(source: Tensor, target: Tensor) -> Tensor:
    """Tell source from target: -E_s log D(s) - E_t log(1 - D(t)), halved so that chance is log 2 = 0.693.

    ADDA (Tzeng et al. 2017) eq. 7, the first line of eq. 9.

    Args:
        source, target: discriminator logits, (B_s, 1) and (B_t, 1); the sizes may differ.
    """
    return 0.5 * (F.softplus(-source).mean() + F.softplus(target).mean())


def inverted_label_loss(target: Tensor) -> Tensor:
    """The encoder's side with inverted labels: -E_t log D(t). ADDA eq. 8, the second line of eq. 9.

    Unlike a reversed gradient (which maximises the discriminator's own loss) it does not vanish where the discriminator
    is sure: its slope at a logit z is -sigmoid(-z).

    Args:
        target: discriminator logits of target samples, (B_t, 1).
    """
    return F.softplus(-target).mean()


def discriminator_accuracy(source: Tensor, target: Tensor) -> Tensor:
    """Share of samples on the right side of logit 0, the domains weighing the same; chance is 0.5. A scalar tensor."""
    with torch.no_grad():
        return 0.5 * ((source > 0).float().mean() + (target <= 0).float().mean())
