"""Adversarial losses against their closed forms, in float64, on made-up samples; and what holds for
every loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from support.host_copies import NoHostCopies
from tl_runner.losses.adversarial import (
    adaptation_factor,
    discriminator_accuracy,
    discriminator_loss,
    inverted_label_loss,
    reverse_gradient,
)
from tl_runner.losses.conditional import RandomisedMap, entropy_weights, multilinear_map
from tl_runner.losses.coral import coral
from tl_runner.losses.discrepancy import classifier_discrepancy
from tl_runner.losses.mmd import median_bandwidths, mmd
from tl_runner.losses.self_training import information_maximisation, minimum_class_confusion


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
    assert discriminator_loss(torch.zeros(3, 1), torch.zeros(5, 1)).item() == pytest.approx(
        math.log(2)
    )


def test_inverted_labels_are_cross_entropy_and_no_reversed_gradient(
    logits,
):
    target = logits[1].requires_grad_()
    loss = inverted_label_loss(target)
    assert loss.item() == pytest.approx(
        F.binary_cross_entropy_with_logits(target, torch.ones_like(target)).item(), abs=1e-12
    )
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


def test_weights_of_mean_one_weigh_the_samples_and_unit_weights_nothing(logits):
    source, target = logits
    source_weight, target_weight = (
        torch.rand(7, dtype=torch.float64),
        torch.rand(4, dtype=torch.float64),
    )
    source_weight, target_weight = (
        source_weight / source_weight.mean(),
        target_weight / target_weight.mean(),
    )
    by_hand = 0.0
    for z, w in zip(source, source_weight, strict=True):
        by_hand += w.item() * math.log(1 + math.exp(-z.item())) / 7 / 2
    for z, w in zip(target, target_weight, strict=True):
        by_hand += w.item() * math.log(1 + math.exp(z.item())) / 4 / 2
    assert discriminator_loss(source, target, source_weight, target_weight).item() == pytest.approx(
        by_hand, abs=1e-12
    )
    ones = [torch.ones(len(z), dtype=torch.float64) for z in logits]
    torch.testing.assert_close(
        discriminator_loss(source, target, *ones), discriminator_loss(source, target)
    )
    assert discriminator_loss(source, target).equal(
        0.5 * (F.softplus(-source).mean() + F.softplus(target).mean())
    )


@pytest.mark.parametrize(
    "make_scale", [float, lambda scale: torch.tensor(scale, dtype=torch.float64)]
)
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_reversed_gradient_scales_the_encoder_only(logits, scale, make_scale):
    x = torch.cat(logits)
    encoder, discriminator = (
        torch.tensor([[1.5]]).double().requires_grad_(),
        torch.tensor([[-0.7]]).double().requires_grad_(),
    )

    def gradients(reverse):
        code = x @ encoder
        code = reverse_gradient(code, make_scale(scale)) if reverse else code
        source, target = (code @ discriminator).split([7, 4])
        loss = discriminator_loss(source, target)
        return loss, *torch.autograd.grad(loss, [encoder, discriminator])

    plain_loss, plain_encoder, plain_discriminator = gradients(reverse=False)
    loss, of_encoder, of_discriminator = gradients(reverse=True)
    assert loss.equal(plain_loss)
    assert of_discriminator.equal(plain_discriminator)
    assert of_discriminator.abs().item() > 0
    torch.testing.assert_close(of_encoder, -scale * plain_encoder)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.5, 0.9866), (1.0, 0.9999)])
def test_adaptation_factor_rises_from_zero_to_one(progress, factor):
    assert adaptation_factor(progress) == pytest.approx(factor, abs=5e-5)


def test_adaptation_factor_follows_gamma():
    assert adaptation_factor(0.0, gamma=1.0) == 0
    assert adaptation_factor(1.0, gamma=1.0) == pytest.approx(math.tanh(0.5))


def test_multilinear_map_is_the_outer_product_class_by_class():
    features, probabilities = (
        torch.tensor([[2.0, 3.0, 5.0], [1.0, 0.0, -1.0]]),
        torch.tensor([[0.25, 0.75], [0.5, 0.5]]),
    )
    expected = [[0.5, 0.75, 1.25, 1.5, 2.25, 3.75], [0.5, 0.0, -0.5, 0.5, 0.0, -0.5]]
    assert multilinear_map(features, probabilities).tolist() == expected


def test_detached_probabilities_shield_the_classifier():
    features, logits = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    multilinear_map(features, logits.softmax(1).detach()).square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert logits.grad is None


def test_random_map_keeps_its_matrices_with_the_weights_and_trains_none():
    torch.manual_seed(0)
    first, second = RandomisedMap(5, 3, width=8), RandomisedMap(5, 3, width=8)
    x, p = torch.randn(4, 5), torch.rand(4, 3)
    assert list(first.parameters()) == []
    assert {name: tuple(m.shape) for name, m in first.state_dict().items()} == {
        "feature_matrix": (5, 8),
        "class_matrix": (3, 8),
    }
    assert not first(x, p).equal(second(x, p))
    second.load_state_dict(first.state_dict())
    assert first(x, p).equal(second(x, p))
    assert first.double().feature_matrix.dtype == torch.float64


def test_random_map_by_its_formula():
    torch.manual_seed(0)
    random_map = RandomisedMap(3, 2, width=4).double()
    f, p = torch.randn(3, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    by_hand = [
        sum(f[i] * random_map.feature_matrix[i, j] for i in range(3))
        * sum(p[k] * random_map.class_matrix[k, j] for k in range(2))
        / 2
        for j in range(4)
    ]
    torch.testing.assert_close(random_map(f[None], p[None])[0], torch.stack(by_hand))


def test_random_maps_inner_products_are_the_exact_maps_on_average():
    torch.manual_seed(0)
    features, probabilities = (
        torch.randn(2, 6, dtype=torch.float64),
        torch.rand(2, 3, dtype=torch.float64),
    )
    exact = multilinear_map(features, probabilities)
    products = []
    for _ in range(200):
        a, b = RandomisedMap(6, 3, width=100).double()(features, probabilities)
        products.append(torch.stack([a @ a, a @ b]))
    products = torch.stack(products)
    standard_error = products.std(dim=0) / math.sqrt(len(products))
    assert (
        (products.mean(dim=0) - torch.stack([exact[0] @ exact[0], exact[0] @ exact[1]]))
        .abs()
        .lt(3 * standard_error)
        .all()
    )


def test_entropy_weights_by_hand_have_mean_one_and_favour_the_sure():
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [1.0, 2.0, 0.5]], dtype=torch.float64)
    by_hand = []
    for row in logits.tolist():
        p = [math.exp(z) / sum(math.exp(y) for y in row) for z in row]
        by_hand.append(1 + math.exp(sum(q * math.log(q) for q in p)))
    weights = entropy_weights(logits, scale=1.0)
    assert weights.tolist() == pytest.approx([w / sum(by_hand) * 3 for w in by_hand], abs=1e-12)
    assert weights.mean().item() == pytest.approx(1)
    assert weights.argmax() == 1
    assert weights.argmin() == 0


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_entropy_weights_gradient_is_reversed_and_scaled_at_a_held_mean(scale):
    logits, losses = (
        torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
        torch.rand(5, dtype=torch.float64),
    )
    p = logits.softmax(1)
    plain = 1 + torch.exp((p * p.log()).sum(1))
    (expected,) = torch.autograd.grad((losses * plain / plain.mean().detach()).mean(), logits)
    (gradient,) = torch.autograd.grad((losses * entropy_weights(logits, scale)).mean(), logits)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, -scale * expected)


def test_entropy_weights_survive_sure_predictions():
    logits = torch.tensor([[1e4, 0.0], [0.0, 0.0]], requires_grad=True)
    weights = entropy_weights(logits, 1.0)
    weights.prod().backward()
    torch.testing.assert_close(weights, torch.tensor([2.0, 1.5]) / 1.75)
    assert torch.isfinite(logits.grad).all()


EVERY_LOSS = {
    "mmd": lambda s, t: mmd([s], [t], [median_bandwidths(s, t, 3, 2.0)]),
    "linear_mmd": lambda s, t: mmd([s], [t], [median_bandwidths(s, t, 3, 2.0)], "linear"),
    "coral": coral,
    "inverted_label_loss": lambda s, t: inverted_label_loss(t[:, :1]),
    "cdan": lambda s, t: discriminator_loss(
        multilinear_map(reverse_gradient(s, 0.5), s.softmax(1))[:, :1],
        t[:, :1],
        entropy_weights(s, 0.5),
        entropy_weights(t, 0.5),
    ),
    "classifier_discrepancy": lambda s, t: classifier_discrepancy(s, t[: len(s)]),
    "minimum_class_confusion": lambda s, t: minimum_class_confusion(t),
    "information_maximisation": lambda s, t: torch.stack(information_maximisation(t)).sum(),
}


@pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS)
def test_losses_keep_float32_and_wait_for_no_value(loss):
    s, t = torch.randn(6, 3), torch.randn(8, 3).requires_grad_()
    with NoHostCopies():
        value = loss(s, t)
        (gradient,) = torch.autograd.grad(value, t)
    assert value.shape == ()
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value, loss(s.double(), t.double()).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS)
def test_losses_of_half_precision_are_computed_in_float32(loss):
    """Autocast on a CPU leaves softmax and softplus in bfloat16, which has three digits."""
    draw = torch.Generator().manual_seed(0)
    s, t = (torch.randn(64, 3, generator=draw).bfloat16().requires_grad_() for _ in range(2))
    whole = [x.detach().float().requires_grad_() for x in (s, t)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(s, t)
    assert value.dtype == torch.float32
    (gradient,) = torch.autograd.grad(value, t)
    (expected,) = torch.autograd.grad(loss(*whole), whole[1])
    error = (gradient.float() - expected).norm() / expected.norm()
    assert error < 0.01  # bfloat16's own rounding of the result is 0.002


def test_host_copies_would_be_noticed():
    for wait in (lambda x: x.max().item(), torch.nonzero, lambda x: x[x > 0]):
        with pytest.raises(AssertionError), NoHostCopies():
            wait(torch.ones(3))
