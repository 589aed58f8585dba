"""Adversarial losses against their closed forms, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from tl_runner.losses.adversarial import discriminator_accuracy, discriminator_loss, inverted_label_loss


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (7, 4)]


def test_discriminator_loss_is_the_mean_of_both_domains_cross_entropies(logits):
    source, target = logits
    by_hand = 0.0
    for z in source:
        by_hand += -math.log(1 / (1 + math.exp(-z.item()))) / len(source) / 2
    for z in target:
        by_hand += -math.log(1 - 1 / (1 + math.exp(-z.item()))) / len(target) / 2
    assert discriminator_loss(source, target).item() == pytest.approx(by_hand, abs=1e-12)


def test_chance_is_log_2():
    assert discriminator_loss(torch.zeros(3, 1), torch.zeros(5, 1)).item() == pytest.approx(math.log(2))


def test_inverted_labels_are_cross_entropy_with_the_source_label_and_not_a_reversed_gradient(logits):
    target = logits[1].requires_grad_()
    loss = inverted_label_loss(target)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(target, torch.ones_like(target)).item(), abs=1e-12)
    (slope,) = torch.autograd.grad(loss, target)
    torch.testing.assert_close(slope, -torch.sigmoid(-target.detach()) / len(target))
    # where the discriminator is sure, a reversed gradient vanishes and this one does not
    sure = torch.full((1, 1), -20.0, dtype=torch.float64, requires_grad=True)
    (inverted,) = torch.autograd.grad(inverted_label_loss(sure), sure)
    (reversed_,) = torch.autograd.grad(-F.softplus(sure).mean(), sure)
    assert inverted.item() == pytest.approx(-1.0, abs=1e-8)
    assert abs(reversed_.item()) < 1e-8


def test_losses_survive_extreme_logits():
    far = torch.full((2, 1), 1e4)
    assert torch.isfinite(discriminator_loss(-far, far))
    assert torch.isfinite(inverted_label_loss(-far))


def test_accuracy_weighs_domains_the_same():
    source, target = torch.tensor([[1.0], [2.0], [-1.0], [3.0]]), torch.tensor([[1.0], [-1.0]])
    assert discriminator_accuracy(source, target).item() == pytest.approx((0.75 + 0.5) / 2)
