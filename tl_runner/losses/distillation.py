"""What a network learns from another one's answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tl_runner.losses.precision import full_precision


def softened_cross_entropy(logits: Tensor, recorded: Tensor, temperature: float) -> Tensor:
    """-sum_k softmax(recorded / T)_k log softmax(logits / T)_k, a mean over the batch; T^2 is not in it.

    Li & Hoiem, "Learning without Forgetting", ECCV 2016, eq. 2-3, whose y'^(1/T) / sum is the softmax of logits over T. It is
    least, the entropy of the recorded answers, where the two agree.

    Args:
        logits: of the network that learns, (B, K).
        recorded: of the other one, (B, K); gets no gradient.
        temperature: T, above 1 softens.
    """
    log_probabilities = F.log_softmax(full_precision(logits) / temperature, dim=1)
    return -(F.softmax(full_precision(recorded.detach()) / temperature, dim=1) * log_probabilities).sum(dim=1).mean()
