"""MCD's discrepancy, MCC, SHOT's losses and pseudo-labels against hand-written numbers and loops,
on made-up predictions."""

import math

import numpy as np
import pytest
import torch

from tl_runner.losses.discrepancy import classifier_discrepancy
from tl_runner.losses.self_training import (
    centroid_pseudo_labels,
    information_maximisation,
    minimum_class_confusion,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_classifier_discrepancy_by_hand():
    p1 = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], dtype=torch.float64)
    p2 = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert classifier_discrepancy(p1.log(), p2.log()).item() == pytest.approx(
        (0.2 + 0.1 + 0.1 + 1 + 1 + 0) / 6, abs=1e-12
    )
    assert classifier_discrepancy(p1.log(), p1.log()) == 0


def test_classifier_discrepancy_gradient():
    logits = draw(3, 4).requires_grad_(), draw(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(classifier_discrepancy, logits)


def confusion_by_loops(logits, temperature):
    """MCC step by step, as in the paper."""
    batch, classes = logits.shape
    rows = [[math.exp(z / temperature) for z in row] for row in logits.tolist()]
    rows = [[z / sum(row) for z in row] for row in rows]
    weights = [1 + math.exp(sum(p * math.log(p) for p in row)) for row in rows]
    weights = [batch * w / sum(weights) for w in weights]
    loss = 0.0
    for j in range(classes):
        correlation = [
            sum(weights[b] * rows[b][j] * rows[b][k] for b in range(batch)) for k in range(classes)
        ]
        loss += sum(correlation[k] / sum(correlation) for k in range(classes) if k != j) / classes
    return loss


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_confusion_equals_loops(temperature):
    logits = 3 * draw(6, 4)
    assert minimum_class_confusion(logits, temperature).item() == pytest.approx(
        confusion_by_loops(logits, temperature), abs=1e-12
    )


def test_class_confusion_takes_temperature_2_5():
    logits = draw(6, 4)
    assert minimum_class_confusion(logits).equal(minimum_class_confusion(logits, 2.5))


def test_class_confusion_gradient_leaves_the_weights_out():
    logits = (3 * draw(6, 4)).requires_grad_()

    def gradient(detach):
        p = (logits / 2.5).softmax(1)
        weight = 1 + torch.exp((p * p.log()).sum(1))
        weight = weight.detach() if detach else weight
        correlation = p.T @ (weight[:, None] * p)
        confusion = correlation / correlation.sum(1, keepdim=True)
        return torch.autograd.grad((confusion.sum() - confusion.trace()) / 4, logits)[0]

    (ours,) = torch.autograd.grad(minimum_class_confusion(logits), logits)
    torch.testing.assert_close(ours, gradient(detach=True))
    assert (ours - gradient(detach=False)).abs().max() > 1e-4


def test_class_confusion_ranges_from_one_hot_to_uniform():
    assert minimum_class_confusion(torch.zeros(6, 4)).item() == pytest.approx(3 / 4)
    assert minimum_class_confusion(1e3 * torch.eye(4)).item() == pytest.approx(0, abs=1e-6)


def test_class_that_nobody_predicts_does_no_harm():
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e4, -1e4]], requires_grad=True)
    loss = minimum_class_confusion(logits)
    loss.backward()
    assert 0 <= loss <= 1
    assert torch.isfinite(logits.grad).all()


def test_information_maximisation_by_hand():
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)
    entropies = [-sum(p * math.log(p) for p in row) for row in probabilities.tolist()]
    mean_entropy, diversity = information_maximisation(probabilities.log() + 7)
    assert mean_entropy.item() == pytest.approx(sum(entropies) / 2)
    assert diversity.item() == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.3, 0.2)))
    assert mean_entropy.shape == diversity.shape == ()


def test_information_maximisation_tells_collapse_from_diversity():
    collapsed = torch.tensor([[1e4, 0.0]] * 4, requires_grad=True)
    for value in information_maximisation(collapsed):
        assert value.item() == pytest.approx(0, abs=1e-6)
    torch.stack(information_maximisation(collapsed)).sum().backward()
    assert torch.isfinite(collapsed.grad).all()
    mean_entropy, diversity = information_maximisation(1e4 * torch.eye(4))
    assert mean_entropy.item() == pytest.approx(0, abs=1e-6)
    assert diversity.item() == pytest.approx(math.log(4))


def test_self_training_gradients():
    logits = draw(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(information_maximisation, logits)


def pseudo_labels_by_loops(features, probabilities):
    """SHOT eq. 4-6 with the appended 1 and without the classes that are empty."""
    n, classes = probabilities.shape
    samples = [np.append(f, 1.0) / np.sqrt((f**2).sum() + 1) for f in features]
    membership, labels = probabilities, [int(np.argmax(p)) for p in probabilities]
    for _ in range(2):
        centroids = {}
        for k in set(labels):
            total = sum(membership[i][k] for i in range(n))
            centroids[k] = sum(membership[i][k] * samples[i] for i in range(n)) / total
        new = []
        for x in samples:
            distance = {
                k: 1 - x @ c / np.linalg.norm(x) / np.linalg.norm(c) for k, c in centroids.items()
            }
            new.append(min(sorted(distance), key=distance.__getitem__))
        labels, membership = new, np.eye(classes)[new]
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_pseudo_labels_equal_loops(seed):
    features, probabilities = draw(40, 6, seed=seed), (2 * draw(40, 5, seed=10 + seed)).softmax(1)
    labels = centroid_pseudo_labels(features, probabilities)
    assert labels.dtype == torch.int64
    assert labels.tolist() == pseudo_labels_by_loops(features.numpy(), probabilities.numpy())
    assert labels.tolist() != probabilities.argmax(1).tolist()


def test_class_without_samples_stays_empty_and_gives_no_nan():
    # class 2 is nobody's first choice, though its soft centroid is the nearest of two samples;
    # class 3 has no probability
    features = torch.tensor(
        [[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [0.2, 1.0], [1.0, 1.0], [1.0, 1.1]],
        dtype=torch.float64,
    )
    probabilities = torch.tensor(
        [
            [1.0, 0, 0, 0],
            [0.9, 0.1, 0, 0],
            [0, 1.0, 0, 0],
            [0.1, 0.9, 0, 0],
            [0.51, 0, 0.49, 0],
            [0, 0.51, 0.49, 0],
        ],
        dtype=torch.float64,
    )
    labels = centroid_pseudo_labels(features, probabilities).tolist()
    assert labels == pseudo_labels_by_loops(features.numpy(), probabilities.numpy())
    assert set(labels) == {0, 1}


def test_appended_one_lets_a_samples_length_count():
    # by direction alone the third sample is the first class's
    features = torch.tensor([[9.0, 0.0], [0.0, 0.1], [0.1, 0.0]], dtype=torch.float64)
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]], dtype=torch.float64)
    assert centroid_pseudo_labels(features, probabilities).tolist() == [0, 1, 1]


def test_pseudo_labels_of_features_that_are_all_zero():
    labels = centroid_pseudo_labels(torch.zeros(4, 3), torch.tensor([[0.2, 0.8]] * 4))
    assert labels.tolist() == [1, 1, 1, 1]
