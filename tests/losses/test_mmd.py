"""MMD and CORAL against double loops over pairs and closed forms, in float64, on made-up
samples."""

import math
from itertools import combinations

import pytest
import torch

from tl_runner.losses.coral import coral
from tl_runner.losses.mmd import median_bandwidths, mmd


def draw(*shape, seed=0, shift=0.0):
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        + shift
    )


def joint_kernel(x, y, bandwidths):
    """Of one pair of samples, layer lists of vectors, by the formula."""
    value = 1.0
    for a, b, gs in zip(x, y, bandwidths, strict=True):
        squared = sum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True))
        value *= sum(math.exp(-squared / g) for g in gs.tolist()) / len(gs)
    return value


def unbiased_by_loops(source, target, bandwidths):
    """Gretton et al. 2012, eq. 3."""
    source, target = list(zip(*source, strict=True)), list(zip(*target, strict=True))
    m, n = len(source), len(target)
    total = 0.0
    for i in range(m):
        for j in range(m):
            total += (i != j) * joint_kernel(source[i], source[j], bandwidths) / (m * (m - 1))
    for i in range(n):
        for j in range(n):
            total += (i != j) * joint_kernel(target[i], target[j], bandwidths) / (n * (n - 1))
    for i in range(m):
        for j in range(n):
            total -= 2 * joint_kernel(source[i], target[j], bandwidths) / (m * n)
    return total


def linear_by_loops(source, target, bandwidths):
    """Gretton et al. 2012, lemma 14: every sample in one quadruple at most."""
    source, target = list(zip(*source, strict=True)), list(zip(*target, strict=True))
    quadruples = min(len(source), len(target)) // 2
    total = 0.0
    for i in range(quadruples):
        s1, s2, t1, t2 = source[2 * i], source[2 * i + 1], target[2 * i], target[2 * i + 1]
        total += joint_kernel(s1, s2, bandwidths) + joint_kernel(t1, t2, bandwidths)
        total -= joint_kernel(s1, t2, bandwidths) + joint_kernel(s2, t1, bandwidths)
    return total / quadruples


BY_LOOPS = {"unbiased": unbiased_by_loops, "linear": linear_by_loops}


@pytest.mark.parametrize("estimator", BY_LOOPS)
@pytest.mark.parametrize("sizes", [(6, 6), (7, 4), (5, 9), (2, 2)])
@pytest.mark.parametrize("widths", [(3,), (3, 2)], ids=["one layer", "joint"])
def test_estimators_equal_loops_over_pairs(estimator, sizes, widths):
    source = [draw(sizes[0], d, seed=d) for d in widths]
    target = [draw(sizes[1], d, seed=10 + d, shift=0.5) for d in widths]
    bandwidths = [median_bandwidths(s, t, 3, 2.0) for s, t in zip(source, target, strict=True)]
    value = mmd(source, target, bandwidths, estimator)
    assert value.shape == ()
    assert value.item() == pytest.approx(BY_LOOPS[estimator](source, target, bandwidths), abs=1e-6)


def test_joint_kernel_is_not_the_sum_of_the_layers():
    source, target = (
        [draw(6, 2, seed=1), draw(6, 3, seed=2)],
        [draw(6, 2, seed=3), draw(6, 3, seed=4)],
    )
    bandwidths = [torch.tensor([2.0]).double(), torch.tensor([3.0]).double()]
    summed = sum(mmd([s], [t], [g]) for s, t, g in zip(source, target, bandwidths, strict=True))
    assert abs(mmd(source, target, bandwidths) - summed) > 1e-3


@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_mmd_of_equal_distributions_is_zero_on_average(estimator):
    values = []
    for seed in range(200):
        samples = draw(22, 4, seed=seed)
        source, target = samples[:10], samples[10:]
        values.append(mmd([source], [target], [torch.tensor([4.0, 8.0]).double()], estimator))
    values = torch.stack(values)
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
    assert 20 < (values < 0).sum() < 180


@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_mmd_of_different_distributions_is_positive(estimator):
    assert (
        mmd(
            [draw(200, 4)],
            [draw(200, 4, seed=1, shift=1.0)],
            [torch.tensor([8.0]).double()],
            estimator,
        )
        > 0.1
    )


@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_no_gradient_passes_through_the_bandwidths(estimator):
    source, target = draw(6, 3).requires_grad_(), draw(8, 3, seed=1, shift=1.0).requires_grad_()
    bandwidths = median_bandwidths(source, target, 5, 2.0)
    assert not bandwidths.requires_grad
    inputs = [source, target]
    followed = torch.autograd.grad(mmd([source], [target], [bandwidths], estimator), inputs)
    constants = torch.tensor(bandwidths.tolist(), dtype=torch.float64)
    fixed = torch.autograd.grad(mmd([source], [target], [constants], estimator), inputs)
    assert all(a.equal(b) for a, b in zip(followed, fixed, strict=True))
    assert all(a.abs().max() > 1e-4 for a in followed)


@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_mmd_gradient(estimator):
    source, target = [draw(4, 3), draw(4, 2, seed=1)], [draw(5, 3, seed=2), draw(5, 2, seed=3)]
    bandwidths = [torch.tensor([1.0, 4.0]).double(), torch.tensor([2.0]).double()]
    inputs = [x.requires_grad_() for x in source + target]
    assert torch.autograd.gradcheck(lambda *x: mmd(x[:2], x[2:], bandwidths, estimator), inputs)


@pytest.mark.parametrize("n", [7, 8])
def test_median_is_over_distinct_pairs_of_the_pooled_samples(n):
    source, target = draw(n // 2, 3), draw(n - n // 2, 3, seed=1, shift=2.0)
    pooled = torch.cat([source, target]).tolist()
    distances = sorted(
        sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for a, b in combinations(pooled, 2)
    )
    median = distances[(len(distances) - 1) // 2]
    with_diagonal = sorted([*distances, *distances, *[0.0] * n])
    assert with_diagonal[(len(with_diagonal) - 1) // 2] != pytest.approx(median)
    assert median_bandwidths(source, target, 1, 2.0).item() == pytest.approx(median)


def test_bandwidths_are_a_ratio_apart_around_the_median():
    source, target = draw(5, 3), draw(6, 3, seed=1)
    median = median_bandwidths(source, target, 1, 2.0).item()
    assert median_bandwidths(source, target, 5, 2.0).tolist() == pytest.approx(
        [median * f for f in (0.25, 0.5, 1, 2, 4)]
    )
    assert median_bandwidths(source, target, 4, 4.0).tolist() == pytest.approx(
        [median * f for f in (0.125, 0.5, 2, 8)]
    )
    paper = median_bandwidths(source, target, 33, math.sqrt(2))
    assert paper[[0, 16, 32]].tolist() == pytest.approx([median * 2**-8, median, median * 2**8])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e3])
@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_equal_samples_give_positive_bandwidths_and_finite_gradients(dtype, value, estimator):
    source, target = (
        torch.full((4, 3), value, dtype=dtype).requires_grad_(),
        torch.full((5, 3), value, dtype=dtype),
    )
    bandwidths = median_bandwidths(source, target, 5, 2.0)
    assert (bandwidths > 0).all()
    loss = mmd([source], [target], [bandwidths], estimator)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(source.grad).all()


def test_distances_survive_a_large_common_offset_in_float32():
    source, target = draw(20, 5), draw(20, 5, seed=1, shift=0.5)
    exact = mmd([source], [target], [median_bandwidths(source, target, 5, 2.0)])
    source, target = (source + 1e3).float(), (target + 1e3).float()
    assert mmd(
        [source], [target], [median_bandwidths(source, target, 5, 2.0)]
    ).item() == pytest.approx(exact.item(), abs=1e-4)


@pytest.mark.parametrize("estimator", BY_LOOPS)
def test_autocast_and_half_precision_inputs_change_no_arithmetic(estimator):
    source, target = draw(20, 5).bfloat16(), draw(20, 5, seed=1, shift=0.5).bfloat16()

    def losses(s, t):
        return mmd([s], [t], [median_bandwidths(s, t, 5, 2.0)], estimator), coral(s, t)

    expected = losses(source.float(), target.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses(source, target) == expected
        assert losses(source.float(), target.float()) == expected


def test_mmd_refuses_what_it_cannot_estimate():
    x, g = [torch.rand(4, 2)], [torch.ones(1)]
    with pytest.raises(
        ValueError, match="unknown MMD estimator 'biased'; choose from unbiased, linear"
    ):
        mmd(x, x, g, "biased")
    for source, target in [(x, [torch.rand(1, 2)]), ([torch.rand(1, 2)], x)]:
        for estimator in BY_LOOPS:
            with pytest.raises(ValueError, match="two samples of each domain"):
                mmd(source, target, g, estimator)
    with pytest.raises(ValueError, match="2 source layers, 1 target layers"):
        mmd(x * 2, x, g)


def test_coral_of_two_covariances_by_hand():
    # covariances (n - 1): source [[2, 2], [2, 2]] from (0, 0), (2, 2); target [[2, -1], [-1, 2 /
    # 3]] from three points
    source = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    target = torch.tensor(
        [[0.0, 1.0], [0.0, 1.0], [math.sqrt(6.0), 1 - math.sqrt(1.5)]], dtype=torch.float64
    )
    difference = [2 - 2, 2 + 1, 2 + 1, 2 - 0.5]
    assert coral(source, target).item() == pytest.approx(
        sum(x**2 for x in difference) / (4 * 2**2), abs=1e-12
    )


def test_coral_sees_no_mean():
    source, target = draw(6, 3), draw(9, 3, seed=1) * 2
    shift = torch.tensor([5.0, -3.0, 100.0], dtype=torch.float64)
    assert coral(source, source + shift).item() == pytest.approx(0, abs=1e-20)
    assert coral(source, target).item() == pytest.approx(
        coral(source - shift, target + shift).item(), rel=1e-9
    )
    assert coral(source, target).item() > 0.1


def test_coral_gradient_reaches_both_domains():
    assert torch.autograd.gradcheck(
        coral, [draw(4, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()]
    )


def test_coral_refuses_a_single_sample():
    with pytest.raises(ValueError, match="two samples of each domain"):
        coral(torch.rand(1, 3), torch.rand(4, 3))
