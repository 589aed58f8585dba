"""Scores of a classifier from its target probabilities alone, no labels. Higher is better, each.

Which of them picks well is an open question: Musgrave et al., "Three New Validators and a Large-Scale Benchmark
Ranking for Unsupervised Domain Adaptation", arXiv 2208.07360, rank BNM among the best.
"""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Minus the mean entropy of the rows of ``p`` (N, K), in nats: sure predictions score near 0."""
    return torch.special.entr(p).sum(1).neg().mean()


def im(p: Tensor) -> Tensor:
    """Mutual information of sample and class: entropy of the mean row minus mean entropy, in [0, log K].

    Bridle et al. 1991; SHOT (Liang et al., ICML 2020) eq. 2-3 trains on it. Sure and balanced predictions score high.
    """
    return torch.special.entr(p.mean(0)).sum() + entropy(p)


def bnm(p: Tensor) -> Tensor:
    """Batch nuclear norm of ``p`` (N, K) over its bound sqrt(N min(N, K)), in (0, 1].

    Cui et al., "Towards Discriminability and Diversity", CVPR 2020, eq. 10-11.
    """
    n, k = p.shape
    return torch.linalg.matrix_norm(p, "nuc") / (n * min(n, k)) ** 0.5


SCORES = {"entropy": entropy, "im": im, "bnm": bnm}
