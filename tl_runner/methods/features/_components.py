"""Transfer components: directions that both domains share, of features or of a kernel. No method by
itself.

Pan, Tsang, Kwok & Yang, "Domain Adaptation via Transfer Component Analysis", IEEE TNN 2011, eq.
3-8; Long et al., ICCV 2013, eq. 9.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tl_runner.methods.base import Setting
from tl_runner.methods.features._base import ENOUGH, Aligned, Domains, signed
from tl_runner.methods.features._learners import SAME, squared_distances

DENSE = 1200  # features up to which all eigenvectors are computed, which is then the faster way


class TransferComponents(Aligned):
    """The learner sees Z = X W, W the top eigenvectors of X^T H X against X^T L X + mu I, L = E
    E^T.

    X (n, p) of both domains is the features themselves with ``kernel=linear`` (the primal form,
    that of Long et al.'s code), and with ``kernel=rbf`` the kernel between them and the landmarks,
    all samples unless told otherwise: then X = K, the form of the paper.

    Args:
        dimensions: components.
        mu: weight of |W|^2.
        kernel: ``linear``, ``rbf``.
        gamma: of exp(-gamma |x - y|^2); None: 1 over the median squared distance.
        landmarks: how many random samples the kernel is taken with; None: all.
        unit: bring every sample's components to length 1, as Long et al.'s code does.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        dimensions: int,
        mu: float,
        kernel: str,
        gamma: float | None,
        landmarks: int | None,
        unit: bool,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.dimensions, self.mu, self.kernel, self.gamma = dimensions, mu, kernel, gamma
        self.landmarks, self.unit = landmarks, unit

    @abstractmethod
    def components(self, x: Tensor, domains: Domains, k: int) -> Tensor:
        """W (p, k) for the features or kernel values x (N + M, p), source first."""

    def design(self, domains: Domains) -> tuple[Tensor, dict[str, Tensor]]:
        """(X (N + M, p), what makes it from features)."""
        both = torch.cat([domains.source, domains.target])
        if self.kernel == "linear":
            return both, {}
        points = both
        if self.landmarks is not None and self.landmarks < len(both):
            order = torch.randperm(
                len(both), generator=torch.Generator().manual_seed(self.setting.seed)
            )[: self.landmarks]
            points = both[order.sort().values.to(both.device)]
        self.refuse_beyond(
            3 * len(both) * len(points),
            both.device,
            f"a kernel of {len(both):,} x {len(points):,} samples",
            "Set method.landmarks=2000, method.kernel=linear, or take fewer images "
            "(train.limit.samples, data.protocol=sampled).",
        )
        gamma = torch.as_tensor(
            median_gamma(points) if self.gamma is None else self.gamma, dtype=both.dtype
        )
        return rbf(both, points, gamma), {"points": points, "gamma": gamma}

    def align(self, domains: Domains) -> Mapping[str, Tensor]:
        x, made_of = self.design(domains)
        w = self.components(
            x, domains, self.at_most(self.dimensions, min(len(x) - 1, x.shape[1]), "dimensions")
        )
        return {"source_map": w, "target_map": w, **made_of}

    def lead(self, maps: Mapping[str, Tensor], z: Tensor) -> Tensor:
        """Features (B, d) to what the map is of, (B, p)."""
        return (
            rbf(z, maps["points"].to(z.dtype), maps["gamma"].to(z.dtype)) if "points" in maps else z
        )

    def along(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        return self.united(super().along(maps, self.lead(maps, z), domain))

    def united(self, z: Tensor) -> Tensor:
        """Components (B, k), each sample's of length 1 where that is asked for."""
        return z / z.norm(dim=1, keepdim=True).clamp_min(ENOUGH) if self.unit else z


def means_apart(source: Tensor, target: Tensor) -> Tensor:
    """The column (n, 1) whose outer product is MMD's L: 1 over their number for the samples of
    ``source``, minus that for ``target``.

    Args:
        source, target: which of the n samples, bool (n,).
    """
    column = source.double() / source.sum().clamp_min(1) - target.double() / target.sum().clamp_min(
        1
    )
    return column[:, None]


def shared(x: Tensor, contrasts: Tensor, mu: float, k: int) -> Tensor:
    """The k top eigenvectors of X^T H X w = lambda (X^T E E^T X + mu I) w, as columns (p, k).

    The right side is mu I plus what has the rank of E, so its inverse root costs as little: no
    matrix is inverted.

    Args:
        x: X, (n, p).
        contrasts: E, (n, r).
        mu: positive.
    """
    centred = x - x.mean(0)
    q, s, _ = torch.linalg.svd(x.T @ contrasts.to(x.dtype), full_matrices=False)  # (p, r)
    shrink = 1 - (mu / (mu + s.square())).sqrt()

    def root(w: Tensor) -> Tensor:  # (X^T L X + mu I)^(-1/2) w, but for the factor mu^(-1/2)
        return w - q @ (shrink[:, None] * (q.T @ w))

    width = x.shape[1]
    if width <= DENSE or 2 * k >= width:
        middle = root(root(centred.T @ centred).T)
        top = torch.linalg.eigh((middle + middle.T) / 2).eigenvectors[:, -k:].flip(1)
    else:
        top = leading(lambda w: root(centred.T @ (centred @ root(w))), width, k, x)
    return signed(root(top)) / mu**0.5


def leading(product: Any, width: int, k: int, like: Tensor) -> Tensor:
    """The k top eigenvectors (p, k) of a symmetric map of columns, by scipy's Lanczos iteration
    from a fixed start."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    def times(v: np.ndarray) -> np.ndarray:
        column = torch.from_numpy(np.ascontiguousarray(v.reshape(width, -1))).to(like)
        return product(column).cpu().double().numpy()

    start = np.random.default_rng(0).standard_normal(width)
    operator = LinearOperator((width, width), matvec=times, matmat=times, dtype=np.float64)
    values, vectors = eigsh(operator, k=k, which="LA", v0=start)
    return torch.from_numpy(vectors[:, np.argsort(-values)].copy()).to(like)


def rbf(x: Tensor, points: Tensor, gamma: Tensor) -> Tensor:
    """exp(-gamma |x - y|^2), (B, d) and (P, d) to (B, P)."""
    return squared_distances(x, points).mul_(-gamma).exp_()


def median_gamma(x: Tensor, most: int = 500) -> float:
    """1 over the median squared distance between different rows of x (N, d), or of ``most`` of
    them, spread evenly."""
    few = (
        x if len(x) <= most else x[torch.arange(most, device=x.device) * len(x) // most]
    ).double()
    squared = squared_distances(few, few)
    row, column = torch.triu_indices(len(few), len(few), 1, device=x.device)
    between = squared[row, column]
    median = between.median().item() if len(between) else 0.0
    return 1 / median if median > SAME * squared.mean().item() else 1.0
