"""Selection scores and classification metrics against brute force and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from tl_runner.metrics import classification, selection


@pytest.fixture
def probabilities():
    return torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).softmax(1)


def test_entropy_and_im_by_hand(probabilities):
    rows = probabilities.tolist()
    mean_entropy = sum(-sum(q * math.log(q) for q in row) for row in rows) / len(rows)
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    assert selection.entropy(probabilities).item() == pytest.approx(-mean_entropy, abs=1e-12)
    assert selection.im(probabilities).item() == pytest.approx(-sum(q * math.log(q) for q in mean) - mean_entropy, abs=1e-12)


def test_bnm_is_the_sum_of_singular_values_over_its_bound(probabilities):
    singular = np.linalg.svd(probabilities.numpy(), compute_uv=False)
    assert selection.bnm(probabilities).item() == pytest.approx(singular.sum() / math.sqrt(50 * 4), abs=1e-10)


def test_the_scores_at_their_best_and_at_collapse():
    sure = torch.eye(4, dtype=torch.float64).repeat(5, 1)
    collapsed = torch.eye(4, dtype=torch.float64)[:1].repeat(20, 1)
    assert selection.entropy(sure).item() == 0
    assert selection.entropy(collapsed).item() == 0  # entropy alone cannot see a collapse; the other two can
    assert selection.im(sure).item() == pytest.approx(math.log(4))
    assert selection.im(collapsed).item() == pytest.approx(0)
    assert selection.bnm(sure).item() == pytest.approx(1)
    assert selection.bnm(collapsed).item() == pytest.approx(0.5)


def test_classification_metrics_are_scikit_learns():
    generator = torch.Generator().manual_seed(2)
    logits, y = torch.randn(200, 5, generator=generator), torch.randint(5, (200,), generator=generator)
    predicted = logits.argmax(1)
    assert classification.accuracy(logits, y).item() == pytest.approx(accuracy_score(y, predicted))
    assert classification.log_loss(logits, y).item() == pytest.approx(log_loss(y, logits.double().softmax(1)), abs=1e-6)
    assert np.array_equal(classification.confusion(predicted, y, 5), confusion_matrix(y, predicted, labels=range(5)))
