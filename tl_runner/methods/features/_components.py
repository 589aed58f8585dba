"""Parts that fits are made of: kernels, principal directions, transfer components, free memory.

Pan, Tsang, Kwok & Yang, "Domain Adaptation via Transfer Component Analysis", IEEE TNN 2011, eq.
3-8; Long et al., ICCV 2013, eq. 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tl_runner.errors import ConfigError, one_of
from tl_runner.methods.features._base import ENOUGH
from tl_runner.methods.features._learners import SAME, squared_distances

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from tl_runner.methods.features._base import Domains

KERNELS = ("linear", "rbf")
DENSE = 1200  # features up to which all eigenvectors are computed, which is then the faster way


# ---- principal directions


def principal(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the first k principal directions, as columns (d, k), of x (N, d).

    Their signs are fixed; k is at most min(N, d).
    """
    mean = x.mean(0)
    centred = x - mean
    if len(x) >= x.shape[1]:  # of many samples the covariance is smaller
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :k]
    else:
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:k].T
    return mean, signed(directions)


def signed(columns: Tensor) -> Tensor:
    """Columns (d, k), each with the sign that makes its largest entry positive: a library may
    return either."""
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))
    return columns * torch.where(largest < 0, -1.0, 1.0).to(columns.dtype)


# ---- kernels


def rbf(x: Tensor, points: Tensor, gamma: Tensor) -> Tensor:
    """The kernel exp(-gamma |x - y|^2) between rows (B, d) and (P, d), (B, P)."""
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


# ---- transfer components


@dataclass(frozen=True)
class ComponentSpace:
    """The space of transfer components, Z = X W: what X is, and how Z is scaled.

    X (n, p) of both domains is the features themselves with ``kernel=linear`` (the primal form,
    that of Long et al.'s code), and with ``kernel=rbf`` the kernel between them and the landmarks,
    all samples unless told otherwise: then X = K, the form of the paper.

    Attributes:
        kernel: ``linear``, ``rbf``.
        gamma: of exp(-gamma |x - y|^2); None: 1 over the median squared distance.
        landmarks: how many random samples the kernel is taken with; None: all.
        unit: bring every sample's components to length 1, as Long et al.'s code does.
        seed: of the draw of the landmarks.

    Raises:
        ConfigError: there is no such kernel.
    """

    kernel: str
    gamma: float | None
    landmarks: int | None
    unit: bool
    seed: int

    def __post_init__(self) -> None:
        one_of("method.kernel", self.kernel, KERNELS)

    def design(self, domains: Domains) -> tuple[Tensor, dict[str, Tensor]]:
        """X (N + M, p), source first, and the tensors that make it from features.

        Raises:
            ConfigError: the kernel does not fit the memory.
        """
        both = torch.cat([domains.source, domains.target])
        if self.kernel == "linear":
            return both, {}
        points = both
        if self.landmarks is not None and self.landmarks < len(both):
            draw = torch.Generator().manual_seed(self.seed)
            order = torch.randperm(len(both), generator=draw)[: self.landmarks]
            points = both[order.sort().values.to(both.device)]
        refuse_beyond(
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

    def project(self, maps: Mapping[str, Tensor], z: Tensor, domain: str) -> Tensor:
        """Components (B, k) of features (B, d) of a domain, by its map and what :meth:`design`
        gave."""
        if self.kernel == "rbf":
            z = rbf(z, maps["points"].to(z.dtype), maps["gamma"].to(z.dtype))
        return self.normalised(z @ maps[f"{domain}_map"].to(z))

    def normalised(self, z: Tensor) -> Tensor:
        """Components (B, k), each sample's of length 1 where that is asked for."""
        return z / z.norm(dim=1, keepdim=True).clamp_min(ENOUGH) if self.unit else z


def means_apart(source: Tensor, target: Tensor) -> Tensor:
    """The column (n, 1) whose outer product is MMD's L: 1 over their number for the samples of
    ``source``, minus that for ``target``.

    Args:
        source, target: which of the n samples, bool (n,).
    """
    of_source = source.double() / source.sum().clamp_min(1)
    of_target = target.double() / target.sum().clamp_min(1)
    return (of_source - of_target)[:, None]


def transfer_components(x: Tensor, contrasts: Tensor, mu: float, k: int) -> Tensor:
    """The k top eigenvectors of X^T H X w = lambda (X^T E E^T X + mu I) w, as columns (p, k).

    The right side is mu I plus what has the rank of E, so its inverse root costs as little: no
    matrix is inverted.

    Args:
        x: X, (n, p).
        contrasts: E, (n, r), of L = E E^T.
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


def leading(product: Callable[[Tensor], Tensor], width: int, k: int, like: Tensor) -> Tensor:
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


# ---- memory


def refuse_beyond(numbers: int, device: torch.device, what: str, cure: str) -> None:
    """Raise where so many double-precision numbers would not fit the memory that is free there.

    Raises:
        ConfigError: with ``cure``, what to do about it.
    """
    free = free_memory(device)
    if numbers * 8 > free:
        raise ConfigError(
            [
                f"{what} would take {numbers * 8 / 2**30:,.1f} GiB, and {free / 2**30:,.1f} "
                f"GiB are free. {cure}"
            ]
        )


def free_memory(device: torch.device) -> float:
    """Bytes that may still be taken on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return (
            float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
        )
    except (OSError, StopIteration, ValueError):
        return 8.0 * 2**30  # unknown: what a small machine has
