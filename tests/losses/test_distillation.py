"""The losses of distillation against brute force in float64, and the identities that published code
breaks."""

from __future__ import annotations

import math

import pytest
import torch

from tl_runner.losses import distillation as losses


def draw(*shape, seed=0, scale=1.0):
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * scale
    )


STUDENT, TEACHER, Y = draw(6, 5), draw(6, 5, seed=1, scale=3.0), torch.tensor([0, 1, 2, 3, 4, 0])


def softmax(z, t):
    e = [math.exp(v / t) for v in z]
    return [v / sum(e) for v in e]


@pytest.mark.parametrize("t", [1.0, 4.0, 20.0])
def test_soft_targets_are_the_divergence_from_the_teacher_times_t_squared(t):
    brute = 0.0
    for s, z in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        brute += sum(
            p * (math.log(p) - math.log(q))
            for p, q in zip(softmax(z, t), softmax(s, t), strict=True)
        )
    brute *= t * t / len(STUDENT)
    assert losses.soft_targets(STUDENT, TEACHER, t).item() == pytest.approx(brute, rel=1e-12)
    log_s, p_t = (STUDENT / t).log_softmax(1), (TEACHER / t).softmax(1)
    # torch's "mean", which published code takes
    assert (p_t * (p_t.log() - log_s)).mean().item() * t * t == pytest.approx(brute / 5)
    turned = losses.soft_targets(TEACHER, STUDENT, t).item()
    assert turned != pytest.approx(brute, rel=0.01)  # KL has a direction


def test_they_are_nothing_where_the_answers_are_the_same():
    assert losses.soft_targets(STUDENT, STUDENT + 7.0, 4.0).item() == pytest.approx(0.0, abs=1e-15)


def test_a_high_temperature_compares_logits():
    """Hinton et al., eq. 4: for centred logits the gradient tends to (z_s - z_t) / K; without T^2
    it would vanish."""
    student, teacher = (z - z.mean(1, keepdim=True) for z in (STUDENT, TEACHER))
    student.requires_grad_()
    losses.soft_targets(student, teacher, 1e5).backward()
    torch.testing.assert_close(
        student.grad * len(student), (student - teacher).detach() / 5, rtol=1e-3, atol=1e-4
    )


def test_the_cross_entropy_form_differs_by_teacher_entropy_and_t_squared():
    t = 3.0
    p = (TEACHER / t).softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    divergence = losses.softened_cross_entropy(STUDENT, TEACHER, t) - entropy
    torch.testing.assert_close(divergence * t * t, losses.soft_targets(STUDENT, TEACHER, t))


def test_no_gradient_reaches_the_teacher():
    for loss in (
        lambda s, t: losses.soft_targets(s, t, 4.0),
        lambda s, t: losses.softened_cross_entropy(s, t, 4.0),
        lambda s, t: sum(part.sum() for part in losses.decoupled(s, t, Y, 4.0)),
        losses.hint_distance,
        losses.relation_distance,
        losses.relation_angle,
    ):
        student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
        loss(student, teacher).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0


# ---- DKD


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_the_two_parts_of_dkd(t):
    tckd, nckd = losses.decoupled(STUDENT, TEACHER, Y, t)
    for i, y in enumerate(Y.tolist()):
        p, q = softmax(TEACHER[i].tolist(), t), softmax(STUDENT[i].tolist(), t)
        binary = p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y]))
        assert tckd[i].item() == pytest.approx(t * t * binary, rel=1e-9)
        rest = [k for k in range(5) if k != y]
        p_, q_ = [p[k] / (1 - p[y]) for k in rest], [q[k] / (1 - q[y]) for k in rest]
        others = sum(a * math.log(a / b) for a, b in zip(p_, q_, strict=True))
        assert nckd[i].item() == pytest.approx(t * t * others, rel=1e-9)


def test_kd_is_dkd_with_the_teachers_own_weights():
    """Zhao et al., eq. 7: KD = TCKD + (1 - p_y) NCKD, p_y the teacher's probability at the same
    temperature."""
    t = 4.0
    tckd, nckd = losses.decoupled(STUDENT, TEACHER, Y, t)
    p_y = (TEACHER / t).softmax(1).gather(1, Y[:, None])[:, 0]
    torch.testing.assert_close(
        (tckd + (1 - p_y) * nckd).mean(), losses.soft_targets(STUDENT, TEACHER, t)
    )


def test_dkd_of_two_classes_and_of_a_teacher_without_doubt():
    tckd, nckd = losses.decoupled(STUDENT[:, :2], TEACHER[:, :2], Y % 2, 2.0)
    torch.testing.assert_close(
        tckd.mean(), losses.soft_targets(STUDENT[:, :2], TEACHER[:, :2], 2.0)
    )
    assert nckd.abs().max() < 1e-12
    sure = torch.full((6, 5), -300.0).scatter(1, Y[:, None], 300.0)
    student = STUDENT.float().requires_grad_()
    tckd, nckd = losses.decoupled(student, sure, Y, 1.0)
    (tckd + nckd).sum().backward()
    assert torch.isfinite(student.grad).all()


# ---- layers and relations


def test_a_hint_is_half_the_squared_distance():
    guided, hint = draw(3, 2, 4, 4), draw(3, 2, 4, 4, seed=1)
    brute = (
        sum(
            (h - g) ** 2
            for h, g in zip(hint.flatten().tolist(), guided.flatten().tolist(), strict=True)
        )
        / 2
        / 3
    )
    assert losses.hint_distance(guided, hint).item() == pytest.approx(brute)


def test_attention_is_the_normalised_sum_of_squares_over_channels():
    maps = draw(2, 3, 4, 5)
    found = losses.attention(maps)
    for image, row in zip(maps.tolist(), found.tolist(), strict=True):
        flat = [sum(image[c][i][j] ** 2 for c in range(3)) for i in range(4) for j in range(5)]
        norm = math.sqrt(sum(v * v for v in flat))
        assert row == pytest.approx([v / norm for v in flat])
    torch.testing.assert_close(losses.attention(7 * maps), found)


def test_the_two_forms_of_attention_transfer():
    student, teacher = (
        losses.attention(draw(2, 3, 4, 5)),
        losses.attention(draw(2, 6, 4, 5, seed=1)),
    )
    norms = (student - teacher).square().sum(1).sqrt()
    assert losses.attention_distance(student, teacher, "paper").item() == pytest.approx(
        norms.mean().item() / 2
    )
    assert losses.attention_distance(student, teacher, "code").item() == pytest.approx(
        norms.square().mean().item() / 20
    )


def huber(a, b):
    return (a - b) ** 2 / 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def test_rkd_by_pairs():
    student, teacher = draw(5, 3), draw(5, 7, seed=1, scale=10.0)

    def relative(z):
        d = {
            (i, j): math.dist(z[i].tolist(), z[j].tolist())
            for i in range(5)
            for j in range(5)
            if i != j
        }
        mean = sum(d.values()) / len(d)
        return {pair: v / mean for pair, v in d.items()}

    own, taught = relative(student), relative(teacher)
    brute = sum(huber(own[pair], taught[pair]) for pair in own) / len(own)
    assert losses.relation_distance(student, teacher).item() == pytest.approx(brute)
    # each in units of its own mean
    assert losses.relation_distance(3 * student, teacher).item() == pytest.approx(brute)


def test_rkd_by_triples():
    student, teacher = draw(5, 3), draw(5, 7, seed=1)

    def cosine(z, i, j, k):
        a, b = z[i] - z[j], z[k] - z[j]
        return float(a @ b / (a.norm() * b.norm()))

    triples = [
        (i, j, k) for i in range(5) for j in range(5) for k in range(5) if len({i, j, k}) == 3
    ]
    brute = sum(huber(cosine(student, *t), cosine(teacher, *t)) for t in triples) / len(triples)
    assert losses.relation_angle(student, teacher).item() == pytest.approx(brute)


def test_rkd_of_two_images_that_are_the_same_has_a_gradient():
    student = draw(4, 3)
    student[1] = student[0]
    student.requires_grad_()
    (
        losses.relation_distance(student, draw(4, 3, seed=1))
        + losses.relation_angle(student, draw(4, 3, seed=1))
    ).backward()
    assert 0 < student.grad.abs().max() < 10


def test_rkd_of_features_that_are_mostly_nothing_has_a_small_gradient():
    """Ten images of 64 for which no unit fires: their distances are 0, which have no direction."""
    student = draw(64, 16).relu()
    student[:10] = 0
    student.requires_grad_()
    losses.relation_angle(student, draw(64, 8, seed=1)).backward()
    assert 0 < student.grad.abs().max() < 1


# ---- several teachers


def test_agreement_is_the_chance_of_the_same_answer():
    p = draw(4, 3, 5).softmax(2)
    found = losses.agreement(p)
    for image, row in zip(p, found, strict=True):
        chance = [sum(float(image[m] @ image[o]) for o in range(3) if o != m) for m in range(3)]
        assert row.tolist() == pytest.approx([c / sum(chance) for c in chance])
    # of two, both the same
    torch.testing.assert_close(
        losses.agreement(p[:, :2]), torch.full((4, 2), 0.5, dtype=torch.float64)
    )
    sure = torch.eye(3, dtype=torch.float64)[None]  # three teachers, sure of three classes
    torch.testing.assert_close(
        losses.agreement(sure), torch.full((1, 3), 1 / 3, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    "shares", [torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), draw(6, 3).softmax(1)]
)
def test_a_mixture_is_one_of_probabilities(shares):
    logits, t = torch.stack([draw(6, 5, seed=s) for s in range(3)], 1), 4.0
    mixed = (shares.expand(6, 3)[:, :, None] * (logits / t).softmax(2)).sum(1)
    torch.testing.assert_close((losses.mixture(logits, shares, t) / t).softmax(1), mixed)
    one = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        (losses.mixture(logits, one, t) / t).softmax(1), (logits[:, 0] / t).softmax(1)
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, y: losses.soft_targets(s, t, 4.0),
        lambda s, t, y: sum(part.mean() for part in losses.decoupled(s, t, y, 4.0)),
        lambda s, t, y: losses.relation_distance(s, t),
        lambda s, t, y: losses.relation_angle(s, t),
        lambda s, t, y: losses.hint_distance(s, t),
        lambda s, t, y: losses.attention_distance(
            *(losses.attention(z.view(32, 2, 2, 2)) for z in (s, t)), "code"
        ),
    ],
)
def test_they_are_computed_in_full_precision_under_autocast(loss):
    student = draw(32, 8).bfloat16()
    teacher = (student.double() + draw(32, 8, seed=1, scale=0.1)).bfloat16()
    y = torch.arange(32) % 8
    exact = loss(student.double(), teacher.double(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student, teacher, y)
    assert found.dtype == torch.float32
    # bfloat16 has three digits, and the difference of two networks fewer
    assert found.item() == pytest.approx(exact.item(), rel=0.005)
