"""What a classifier's own predictions on unlabelled samples can teach: MCC's and SHOT's losses,
SHOT's pseudo-labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.losses.precision import full_precision


def minimum_class_confusion(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """How much each class is predicted together with others, from 0 (every prediction one-hot) to 1
    - 1/K (all uniform).

    Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation" (MCC), ECCV 2020, section
    3. With probabilities Y = softmax(logits / T) and sample weights w = 1 + exp(-entropy of the
    row), scaled to sum B: the class correlation C = Y^T diag(w) Y, its rows divided by their sums,
    and of that the off-diagonal sum over K. As in the authors' code the weights carry no gradient
    and everything else does.

    The rows of Y sum to 1, so those of C sum to r_j = sum_b w_b Y_bj, and the loss is 1 - sum_bj
    (w_b Y_bj / r_j) Y_bj / K: the bracket is a softmax over the batch of log Y + log w, in which
    the scale of w cancels and a class that nobody predicts does no harm.

    Args:
        logits: of the target's samples, (B, K).
        temperature: T, above 1 softens.

    Returns:
        A scalar.
    """
    log_probabilities = F.log_softmax(full_precision(logits) / temperature, dim=1)
    log_weights = torch.log1p(torch.exp(-_entropy(log_probabilities))).detach()
    share = (log_probabilities + log_weights[:, None]).softmax(dim=0)
    return 1 - (share * log_probabilities.exp()).sum(dim=0).mean()


def information_maximisation(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of the predictions, and the entropy of their mean (diversity), in nats, each in
    [0, log K].

    Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
    Unsupervised Domain Adaptation" (SHOT), ICML 2020, eq. 2-3. The loss is the first less the
    second: each sample sure, the classes all in use.

    Args:
        logits: of the target's samples, (B, K).

    Returns:
        Two scalars.
    """
    log_probabilities = F.log_softmax(full_precision(logits), dim=1)
    log_mean = log_probabilities.logsumexp(dim=0, keepdim=True) - math.log(len(logits))
    return _entropy(log_probabilities).mean(), _entropy(log_mean).squeeze()


@torch.no_grad()
def centroid_pseudo_labels(features: Tensor, probabilities: Tensor) -> Tensor:
    """Each sample's class by the nearest class centroid (cosine): centroids weighted by the
    probabilities, then once more.

    SHOT (see :func:`information_maximisation`) eq. 4-6. Two things are as in the authors' code for
    objects and not in the paper: a 1 is appended to the features before they are scaled to unit
    length, and in each round a class to which no sample belongs (by the probabilities' maximum,
    then by the first round's labels) gets none. Their code for digits lets an empty class take
    part, whose distances are then NaN.

    Args:
        features: what the head sees, of all target samples, (N, d).
        probabilities: the head's, (N, K).

    Returns:
        int64 labels, (N,).
    """
    samples = F.normalize(F.pad(features, (0, 1), value=1.0), dim=1)
    classes = probabilities.shape[1]
    membership, labels = probabilities, probabilities.argmax(dim=1)
    for _ in range(2):
        empty = F.one_hot(labels, classes).sum(dim=0) == 0
        # the length of a centroid does not change its cosines, so the sums of eq. 4 need not be
        # divided
        centroids = F.normalize(membership.T @ samples, dim=1)
        labels = (samples @ centroids.T).masked_fill(empty, -math.inf).argmax(dim=1)
        membership = F.one_hot(labels, classes).to(samples.dtype)
    return labels


def _entropy(log_probabilities: Tensor) -> Tensor:
    """Of each row: (B, K) -> (B,). From logarithms, so that a probability of 0 gives 0 and a finite
    gradient."""
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
