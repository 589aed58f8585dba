"""Maximum mean discrepancy (MMD) between source and target with Gaussian kernels: one layer (DAN)
or several jointly (JAN).

Gretton et al., "A Kernel Two-Sample Test", JMLR 2012: the estimators. Long et al., "Learning
Transferable Features with Deep Adaptation Networks", ICML 2015 (DAN): several kernels. Long et al.,
"Deep Transfer Learning with Joint Adaptation Networks", ICML 2017 (JAN): the joint MMD (JMMD),
whose kernel is the product of the layers' kernels (section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from tl_runner.losses.precision import full_precision


def median_bandwidths(source: Tensor, target: Tensor, kernels: int, ratio: float) -> Tensor:
    """Bandwidths around the median squared distance of the pooled samples, a factor ``ratio``
    apart, centred on the median.

    DAN: 33 kernels a factor sqrt(2) apart, 2^-8 to 2^8 medians; its published code takes 5, a
    factor 2 apart. The median is over distinct pairs (of an even number of them the lower middle
    one), so no sample's distance to itself counts. No gradient passes: a bandwidth that follows the
    features would let them look alike without moving.

    Args:
        source, target: activations of one layer, (B_s, d) and (B_t, d).
        kernels: how many bandwidths, m.
        ratio: of one bandwidth to the one before.

    Returns:
        (m,), ascending for ratio > 1, squared units of the activations; positive even if all
            samples are equal.
    """
    median = _off_diagonal(_squared_distances(torch.cat([source, target]).detach())).median()
    steps = torch.arange(kernels, dtype=median.dtype, device=median.device) - (kernels - 1) / 2
    limits = torch.finfo(median.dtype)
    return (median.clamp_min(limits.eps) * ratio**steps).clamp(limits.tiny, limits.max)


def mmd(
    source: Sequence[Tensor],
    target: Sequence[Tensor],
    bandwidths: Sequence[Tensor],
    estimator: str = "unbiased",
) -> Tensor:
    """Squared MMD between the joint distributions of the layers' activations; with one layer, the
    term that DAN sums over layers.

    k(x, y) = prod_l mean_g exp(-|x_l - y_l|^2 / g), g over the layer's bandwidths. No estimate here
    is biased, so that of equal distributions is zero on average and often negative.

    - ``unbiased``: the U-statistic (Gretton et al. eq. 3), all pairs but a sample with itself; time
      and memory O(B^2).
    - ``linear``: mean over disjoint quadruples of k(s, s') + k(t, t') - k(s, t') - k(s', t)
      (Gretton et al. lemma 14; the estimate that DAN and JAN train with); O(B), and noisier. It
      uses 2 floor(min(B_s, B_t) / 2) samples of each domain.

    Args:
        source, target: a layer each, (B_s, d_l) and (B_t, d_l); rows of all layers are the same
            samples. B_s and B_t may differ.
        bandwidths: a layer each, (m_l,), positive, as :func:`median_bandwidths` gives them.
        estimator: ``unbiased`` or ``linear``.

    Returns:
        A scalar.

    Raises:
        ValueError: unknown estimator, fewer than two samples in a domain, or sequences of different
            lengths.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"unknown MMD estimator {estimator!r}; choose from {', '.join(ESTIMATORS)}"
        )
    if not len(source) == len(target) == len(bandwidths) > 0:
        raise ValueError(
            f"{len(source)} source layers, {len(target)} target layers, {len(bandwidths)} sets of "
            "bandwidths"
        )
    if min(len(source[0]), len(target[0])) < 2:
        raise ValueError(
            f"MMD needs two samples of each domain; got {len(source[0])} of the source, "
            f"{len(target[0])} of the target"
        )
    return ESTIMATORS[estimator](source, target, bandwidths)


def _unbiased(
    source: Sequence[Tensor], target: Sequence[Tensor], bandwidths: Sequence[Tensor]
) -> Tensor:
    kernel = _joint_kernel(
        [_squared_distances(torch.cat(layer)) for layer in zip(source, target, strict=True)],
        bandwidths,
    )
    n = len(source[0])
    within_source, within_target, between = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    return (
        _off_diagonal(within_source).mean()
        + _off_diagonal(within_target).mean()
        - 2 * between.mean()
    )


def _linear(
    source: Sequence[Tensor], target: Sequence[Tensor], bandwidths: Sequence[Tensor]
) -> Tensor:
    n = min(len(source[0]), len(target[0])) // 2 * 2
    odd_source, even_source, odd_target, even_target = (
        [layer[start:n:2] for layer in layers] for layers in (source, target) for start in (0, 1)
    )
    return (
        _pairwise_kernel(odd_source, even_source, bandwidths)
        + _pairwise_kernel(odd_target, even_target, bandwidths)
        - _pairwise_kernel(odd_source, even_target, bandwidths)
        - _pairwise_kernel(even_source, odd_target, bandwidths)
    ).mean()


ESTIMATORS: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "unbiased": _unbiased,
    "linear": _linear,
}


def _pairwise_kernel(
    x: Sequence[Tensor], y: Sequence[Tensor], bandwidths: Sequence[Tensor]
) -> Tensor:
    """Of row i of x and row i of y: layers of (n, d_l) -> (n,)."""
    differences = [full_precision(a) - full_precision(b) for a, b in zip(x, y, strict=True)]
    return _joint_kernel([d.square().sum(dim=1) for d in differences], bandwidths)


def _joint_kernel(squared: Sequence[Tensor], bandwidths: Sequence[Tensor]) -> Tensor:
    """Product over layers of :func:`_kernel`."""
    return reduce(torch.mul, [_kernel(d, g) for d, g in zip(squared, bandwidths, strict=True)])


def _kernel(squared: Tensor, bandwidths: Tensor) -> Tensor:
    """Mean over bandwidths (m,) of exp(-squared / bandwidth), of the shape of ``squared``."""
    return reduce(torch.add, [torch.exp(squared * rate) for rate in -1 / bandwidths]) / len(
        bandwidths
    )


def _squared_distances(x: Tensor) -> Tensor:
    """(n, d) -> (n, n), in one matrix product; centred first, which keeps the rounding small."""
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        x = x - x.mean(dim=0)
        gram = x @ x.T
        squares = gram.diagonal()
        return (squares[:, None] + squares - 2 * gram).clamp_min(0)


def _off_diagonal(square: Tensor) -> Tensor:
    """All but the diagonal of (n, n) as (n - 1, n)."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1]
