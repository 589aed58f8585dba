"""Estimates of an accuracy without labels: by hand, by brute force, and where they hold."""

from __future__ import annotations

import numpy as np
import pytest

from tl_runner.metrics.estimates import atc, doc, estimates


def brute_atc(source, hits, target):
    """The threshold of Garg et al., eq. 1, tried at every confidence (no two are the same)."""
    best = min(np.sort(source), key=lambda t: abs((source < t).mean() - (~hits).mean()))
    return (target >= best).mean()


@pytest.mark.parametrize("seed", range(8))
def test_atc_is_the_share_above_the_threshold_of_the_papers_first_equation(seed):
    draw = np.random.default_rng(seed)
    source, target = draw.uniform(0.2, 1, 200), draw.uniform(0.2, 1, 150)
    hits = draw.uniform(size=200) < source
    assert atc(source, hits, target) == pytest.approx(brute_atc(source, hits, target), abs=1e-9)


def test_by_hand():
    source, hits = np.array([0.5, 0.6, 0.8, 0.9]), np.array([False, True, True, True])
    # one of four is wrong, so the threshold is 0.6
    assert atc(source, hits, np.array([0.55, 0.6, 0.7, 0.95])) == pytest.approx(0.75)
    assert doc(source, hits, np.array([0.5, 0.6])) == pytest.approx(0.75 - (0.7 - 0.55))
    assert atc(source, np.ones(4, bool), np.array([0.1, 0.7])) == pytest.approx(0.5)
    assert atc(source, np.zeros(4, bool), np.array([0.1, 0.95])) == pytest.approx(0.5)
    assert doc(source, np.zeros(4, bool), np.array([0.1])) == 0.0


@pytest.mark.parametrize("estimate", [atc, doc])
def test_on_the_source_itself_it_is_the_accuracy(estimate):
    draw = np.random.default_rng(1)
    source = draw.choice([0.4, 0.5, 0.9], 300)  # with ties
    hits = draw.uniform(size=300) < source
    assert estimate(source, hits, source) == pytest.approx(hits.mean())


def test_intervals_hold_the_truth_where_confidence_means_the_same():
    """Calibrated confidences in both domains, lower ones in the target."""
    inside, n = 0, 40
    for seed in range(n):
        draw = np.random.default_rng(seed)
        p = draw.uniform(0.5, 1, 600)
        source = np.c_[p, 1 - p]
        labels = (draw.uniform(size=600) > p).astype(int)
        q = 0.5 + 0.5 * draw.beta(1, 2, 600)
        values, intervals = estimates(source, labels, np.c_[q, 1 - q], seed=seed)
        assert all(low <= values[name] <= high for name, (low, high) in intervals.items())
        low, high = intervals["doc"]
        inside += low <= q.mean() <= high
    assert inside >= 0.85 * n


def test_it_is_the_same_every_time():
    draw = np.random.default_rng(0)
    p = draw.dirichlet(np.ones(4), 90)
    y = draw.integers(0, 4, 90)
    assert estimates(p, y, p[:50]) == estimates(p, y, p[:50])
