"""What classes are ranked by, beside arithmetic of fifty digits."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
from sklearn import metrics as sk

from tl_runner.metrics import evaluation_report as report
from tl_runner.metrics.log_odds import log_odds


def by_hand(logits):
    getcontext().prec = 1500
    rows = []
    for row in logits.tolist():
        odds = [Decimal(z).exp() for z in row]
        rows.append([float((o / (sum(odds) - o)).ln()) for o in odds])
    return np.array(rows)


@pytest.mark.parametrize("spread", [0.1, 3, 40, 400])
@pytest.mark.parametrize("k", [2, 5])
def test_log_odds_by_hand(spread, k):
    logits = (spread * np.random.default_rng(0).normal(size=(20, k))).astype(np.float32)
    np.testing.assert_allclose(log_odds(logits), by_hand(logits), rtol=1e-9, atol=1e-12)


def test_equal_logits_have_equal_odds():
    np.testing.assert_allclose(log_odds(np.zeros((1, 4), np.float32)), np.log(1 / 3))


def test_of_two_classes_both_have_the_area_of_the_logits_where_probabilities_tie():
    draw = np.random.default_rng(1)
    y = draw.integers(0, 2, 400)
    gap = 25 + 4 * draw.normal(size=400) + 3 * y  # sure of class 1, and right by the ranking
    logits = np.stack([-gap / 2, gap / 2], 1).astype(np.float32)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    p = odds / odds.sum(1, keepdims=True)
    tied, found = (
        report.classification(p, y, ranking=ranking, resamples=20)
        for ranking in (None, log_odds(logits))
    )
    area = sk.roc_auc_score(y, logits[:, 1].astype(np.float64) - logits[:, 0])
    assert found["per_class"]["auc"] == [pytest.approx(area)] * 2
    assert found["metrics"]["auc_macro"] == pytest.approx(area)
    low, high = found["intervals"]["auc_macro"]
    assert low < area < high
    assert abs(tied["per_class"]["auc"][0] - tied["per_class"]["auc"][1]) > 0.1
    assert {k: v for k, v in found["metrics"].items() if "auc" not in k and "prec" not in k} == {
        k: v for k, v in tied["metrics"].items() if "auc" not in k and "prec" not in k
    }
