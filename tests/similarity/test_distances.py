"""Distances between domains and transferability scores, against scipy, scikit-learn and direct
computations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from tl_runner.losses.coral import coral
from tl_runner.losses.mmd import mmd
from tl_runner.similarity import distances as domains
from tl_runner.similarity import transferability

RNG = np.random.default_rng


def sets(n=30, m=40, d=4, shift=0.5):
    draw = RNG(0)
    return draw.standard_normal((n, d)), draw.standard_normal((m, d)) + shift


# ---- domains


def test_the_mmd_is_the_unbiased_estimate():
    source, target = sets()
    value, _ = domains.mmd_test(source, target, permutations=3)
    both = np.concatenate([source, target])
    median = np.median([((a - b) ** 2).sum() for a, b in itertools.combinations(both, 2)])
    expected = mmd([torch.from_numpy(source)], [torch.from_numpy(target)], [torch.tensor([median])])
    assert value == pytest.approx(expected.item(), abs=1e-12)


def test_the_permutation_test_is_that_of_every_split_by_hand():
    source, target = sets(6, 5)
    value, p = domains.mmd_test(source, target, permutations=50, seed=3)
    kernel, draw, n = domains.gaussian(source, target), RNG(3), 6

    def estimate(rows):
        s = np.isin(np.arange(11), rows)
        of = [kernel[np.ix_(a, b)] for a, b in ((s, s), (~s, ~s), (s, ~s))]
        return (of[0].sum() - 6) / 30 + (of[1].sum() - 5) / 20 - 2 * of[2].mean()

    assert value == pytest.approx(estimate(np.arange(6)))
    more = sum(estimate(draw.permutation(11)[:n]) >= value - 1e-12 for _ in range(50))
    assert p == pytest.approx((1 + more) / 51)


def test_the_permutation_test_holds_its_level_and_finds_a_shift():
    draw = RNG(1)
    same = [
        domains.mmd_test(draw.standard_normal((15, 3)), draw.standard_normal((20, 3)), 99, i)[1]
        for i in range(200)
    ]
    assert 0.01 <= np.mean(np.array(same) <= 0.05) <= 0.1
    assert domains.mmd_test(*sets(shift=2.0))[1] <= 0.01


def test_the_coral_distance_is_the_losses():
    source, target = sets()
    assert domains.coral_distance(source, target) == pytest.approx(
        coral(torch.from_numpy(source), torch.from_numpy(target)).item()
    )


def test_wasserstein_is_scipys_feature_by_feature():
    source, target = sets(40, 40)
    expected = np.mean(
        [scipy.stats.wasserstein_distance(source[:, j], target[:, j]) for j in range(4)]
    )
    assert domains.wasserstein(source, target) == pytest.approx(expected)
    few, many = sets(200, 300)
    expected = np.mean([scipy.stats.wasserstein_distance(few[:, j], many[:, j]) for j in range(4)])
    assert domains.wasserstein(few, many) == pytest.approx(expected, rel=0.05)


def test_the_sliced_distance_of_a_shift_is_the_shifts_share():
    source = RNG(0).standard_normal((50, 8))
    shift = np.zeros(8)
    shift[0] = 3.0
    assert domains.sliced_wasserstein(source, source + shift) == pytest.approx(3 / 8**0.5, rel=0.25)
    assert domains.sliced_wasserstein(source, source) == 0


def test_one_scale_for_both_keeps_what_is_between_them():
    source, target = sets()
    a, b = domains.unit_scale(100 * source + 7, 100 * target + 7)
    c, d = domains.unit_scale(source, target)
    np.testing.assert_allclose(a, c, atol=1e-9)
    np.testing.assert_allclose(b, d, atol=1e-9)


# ---- transferability


def test_logme_is_the_greatest_evidence():
    draw = RNG(0)
    for n, d in ((30, 4), (8, 12)):
        f, y = draw.standard_normal((n, d)), draw.integers(0, 2, n)

        def evidence(log_a, log_b, t, f=f, n=n, d=d):
            covariance = np.eye(n) / np.exp(log_b) + f @ f.T / np.exp(log_a)
            return (
                scipy.stats.multivariate_normal.logpdf(
                    t, np.zeros(n), covariance, allow_singular=True
                )
                / n
            )

        for c in (0, 1):
            t = (y == c).astype(float)
            best = max(
                -scipy.optimize.minimize(
                    lambda v, t=t: -evidence(*v, t),
                    start,
                    method="Nelder-Mead",
                    options={"maxiter": 4000},
                ).fun
                for start in ([0, 0], [3, 3])
            )
            u, s, _ = np.linalg.svd(f, full_matrices=False)
            found = transferability._evidence(t, (u.T @ t) ** 2, s**2, n, d)
            assert found == pytest.approx(best, abs=2e-3)
        assert transferability.logme(f, y) == pytest.approx(
            np.mean(
                [
                    transferability._evidence((y == c) * 1.0, (u.T @ (y == c)) ** 2, s**2, n, d)
                    for c in (0, 1)
                ]
            )
        )


def test_leep_is_the_sum_by_hand():
    draw = RNG(0)
    p, y = draw.dirichlet(np.ones(3), 20), draw.integers(0, 4, 20)
    total = 0.0
    for i in range(20):
        said = 0.0
        for z in range(3):
            said += sum(p[j, z] for j in range(20) if y[j] == y[i]) / p[:, z].sum() * p[i, z]
        total += np.log(said)
    assert transferability.leep(p, y) == pytest.approx(total / 20)


def test_nce_is_the_negative_conditional_entropy():
    draw = RNG(0)
    z, y = draw.integers(0, 3, 50), draw.integers(0, 4, 50)
    by_scipy = -sum((z == c).mean() * scipy.stats.entropy(np.bincount(y[z == c])) for c in range(3))
    assert transferability.nce(z, y) == pytest.approx(by_scipy)
    assert transferability.nce(y, y) == pytest.approx(0)


def test_the_h_score_is_the_trace():
    draw = RNG(0)
    f, y = draw.standard_normal((60, 5)), draw.integers(0, 3, 60)
    explained = np.stack([f[y == y[i]].mean(0) for i in range(60)])
    expected = np.trace(np.linalg.inv(np.cov(f.T, bias=True)) @ np.cov(explained.T, bias=True))
    assert transferability.h_score(f, y) == pytest.approx(expected)
    perfect = np.eye(3)[y]
    assert transferability.h_score(perfect, y) == pytest.approx(2)
    assert np.isnan(transferability.h_score(f[:6], y[:6]))
    assert np.isfinite(transferability.logme(np.zeros((20, 3)), y[:20]))


def test_scores_prefer_features_that_tell_the_classes():
    draw = RNG(0)
    y = draw.integers(0, 3, 150)
    noise = draw.standard_normal((150, 6))
    good = noise + 3 * np.eye(6)[y]
    for score in (transferability.logme, transferability.h_score, transferability.linear_probe):
        assert score(good, y) > score(noise, y)
    assert np.isnan(transferability.linear_probe(noise[:4], np.arange(4)))
