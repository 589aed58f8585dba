"""Scores of a classifier from its target probabilities alone, no labels. Higher is better, each.

``importance.py`` and ``reverse.py`` have the two that read labels of the source as well.

Which of them picks well is an open question: Musgrave et al., "Three New Validators and a
Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation", arXiv 2208.07360, rank BNM among
the best.
"""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Minus the mean entropy of the rows of ``p`` (N, K), in nats; sure predictions are near 0."""
    return torch.special.entr(p).sum(1).neg().mean()


def im(p: Tensor) -> Tensor:
    """Mutual information of sample and class, in [0, log K].

    Entropy of the mean row minus mean entropy.

    Bridle et al. 1991; SHOT (Liang et al., ICML 2020) eq. 2-3 trains on it. Sure and balanced
    predictions score high.
    """
    return torch.special.entr(p.mean(0)).sum() + entropy(p)


def bnm(p: Tensor) -> Tensor:
    """Batch nuclear norm of ``p`` (N, K) over its bound sqrt(N min(N, K)), in (0, 1].

    Cui et al., "Towards Discriminability and Diversity", CVPR 2020, eq. 10-11.
    """
    n, k = p.shape
    return torch.linalg.matrix_norm(p, "nuc") / (n * min(n, k)) ** 0.5


def snd(p: Tensor, temperature: float = 0.05, chunk: int = 500) -> Tensor:
    """Soft neighbourhood density of ``p`` (N, K), in [0, log(N - 1)] nats.

    NaN of one sample, which has no neighbour.

    Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft
    Neighborhood Density", ICCV 2021, eq. 1-3: each row's neighbours by a softmax over the cosines
    of its probabilities with all others' over ``temperature``, itself left out; the mean entropy of
    that. Dense clusters score high, and so does a collapse into one class. The authors' code takes
    log(p + 1e-5) and gives the sample itself a cosine of -1; this is the paper's.

    Args:
        chunk: rows at once: memory is chunk x N.
    """
    unit = torch.nn.functional.normalize(p, dim=1)
    total = p.new_zeros(())
    for start in range(0, len(p), chunk):
        # of logits s, the largest 1 / temperature, the entropy is log sum(exp s) - E[s]
        logits = unit[start : start + chunk] @ unit.T
        logits.sub_(1).div_(temperature)
        odds = logits.exp()
        odds.diagonal(start).zero_()
        sums = odds.sum(1)
        total = total + (sums.log() - torch.linalg.vecdot(odds, logits) / sums).sum()
    return total / len(p)


SCORES = {"entropy": entropy, "im": im, "snd": snd, "bnm": bnm}
