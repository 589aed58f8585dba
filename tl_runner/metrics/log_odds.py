"""What classes are ranked by: the log-odds of each against all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_odds(logits: NDArray) -> NDArray:
    """log p_c - log(1 - p_c) of the softmax p of logits (N, K), K >= 2, float64 (N, K).

    Probabilities rank no further than their rounding: in float32 those of a sample whose first
    logit is 17 above the others are all 1, so that such samples tie, where their log-odds differ.
    Of two classes one's are the other's with the sign changed.
    """
    from scipy.special import logsumexp

    z = logits.astype(np.float64)
    rows, top = np.arange(len(z)), z.argmax(1)
    shifted = z - logsumexp(z, axis=1, keepdims=True)  # log p
    with np.errstate(divide="ignore"):
        # log(1 - p) of classes with at most half of it; of the first from the others themselves
        rest = np.log1p(-np.exp(shifted))
    others = z.copy()
    others[rows, top] = -np.inf
    found = shifted - rest
    found[rows, top] = z[rows, top] - logsumexp(others, axis=1)
    if z.shape[1] == 2:
        found[rows, 1 - top] = -found[rows, top]
    return found
