"""The methods on features: each against an independent computation in float64, by hand or by scipy
and scikit-learn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from tl_runner.errors import ConfigError
from tl_runner.methods.features import _components as kernels
from tl_runner.methods.features import _learners as learners
from tl_runner.methods.features import coral, gfk, kliep, kmm, ot_da, scl
from tl_runner.methods.features._base import Domains
from tl_runner.methods.features._components import principal, signed
from tl_runner.methods.features._fitted import Fitted

DOUBLE = torch.float64


def points(n, d, seed=0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) + shift


def classes(n, k, seed=0):
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


# ---- learners


@pytest.mark.parametrize("kind", learners.LEARNERS)
@pytest.mark.parametrize("k", [2, 3])
def test_a_learner_is_scikit_learns_in_tensors(kind, k):
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import LinearSVC

    x, y = points(60, 4), classes(60, k)
    x += 2 * torch.nn.functional.one_hot(y, 4)
    tools = {
        "1nn": KNeighborsClassifier(1),
        "logistic": LogisticRegression(C=2.0, max_iter=1000),
        "svm": LinearSVC(C=2.0, random_state=0, max_iter=10_000),
        "ridge": RidgeClassifier(alpha=0.5),
        "mlp": MLPClassifier((learners.HIDDEN,), alpha=5e-5, random_state=0, max_iter=100),
    }
    asked = points(500, 4, seed=1)
    centre = x.mean(0)
    scale = (x - centre).square().mean().sqrt()
    expected = (
        tools[kind]
        .fit(((x - centre) / scale).numpy(), y.numpy())
        .predict(((asked - centre) / scale).numpy())
    )
    said = learners.logits(learners.learn(kind, x, y, k, 2.0), asked, k)
    assert said.shape == (500, k)
    assert said.isfinite().all()
    assert said.argmax(1).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", learners.LEARNERS)
def test_a_learner_never_names_a_class_that_it_has_not_seen(kind):
    x, y = points(40, 3), classes(40, 2) * 2 + 1
    said = learners.logits(learners.learn(kind, x, y, 5, 1.0), points(50, 3, seed=1), 5)
    assert set(said.argmax(1).tolist()) <= {1, 3}
    alone = learners.logits(
        learners.learn(kind, x, torch.full_like(y, 2), 5, 1.0), points(50, 3, seed=1), 5
    )
    assert set(alone.argmax(1).tolist()) == {2}


def test_the_nearest_neighbour_is_found_however_far_it_is():
    """Points that come twice have neighbours at no distance."""
    x, y = points(40, 3).repeat(2, 1), classes(40, 4).repeat(2)
    far = points(20, 3, seed=1, shift=1000.0)
    said = learners.logits(learners.learn("1nn", x, y, 4, 1.0), far, 4)
    assert said.argmax(1).tolist() == y[torch.cdist(far, x).argmin(1)].tolist()
    assert said.isfinite().all()


@pytest.mark.parametrize("kind", learners.WEIGHTABLE)
@pytest.mark.parametrize("k", [3, 4])
def test_a_class_that_weighs_nothing_is_never_named(kind, k):
    x, y = points(60, 3), classes(60, k)
    found = learners.logits(
        learners.learn(kind, x, y, k, 1.0, (y != 1).double()), points(80, 3, seed=1), k
    ).argmax(1)
    assert set(found.tolist()) == {*range(k)} - {1}


@pytest.mark.parametrize("kind", learners.WEIGHTABLE)
def test_a_weight_of_two_is_a_sample_twice(kind):
    x, y = points(30, 3), classes(30, 3)
    weights = 1.0 + (torch.arange(30) < 10)
    twice = torch.cat([torch.arange(30), torch.arange(10)])
    centre, scale = x.mean(0), (x - x.mean(0)).square().mean().sqrt()
    z = (x - centre) / scale  # the same units for both, so that only the weights differ
    one = learners._linear(kind, z.numpy(), y.numpy(), 1.0, weights.double().numpy(), 0)
    other = learners._linear(kind, z[twice].numpy(), y[twice].numpy(), 1.0, None, 0)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_what_was_fitted_comes_back_whatever_its_shape():
    made = Fitted()
    made.put({"a": points(2, 3), "labels": classes(4, 3)}, "cpu")
    other = Fitted()
    other.put({"a": points(7, 7), "old": points(1, 1)}, "cpu")
    assert not other.load_state_dict(made.state_dict(), strict=True).missing_keys
    assert set(other.names()) == {"a", "labels"}
    torch.testing.assert_close(other["a"], points(2, 3).float())


# ---- maps


def test_principal_directions_are_the_covariances():
    x = points(30, 5)
    mean, directions = principal(x, 3)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(directions, signed(torch.from_numpy(vectors[:, ::-1][:, :3].copy())))
    assert values[0] > 0


def test_coral_gives_the_source_the_targets_covariance():
    source, target = points(50, 4), points(40, 4, seed=1) @ points(4, 4, seed=2)
    moved = source @ coral.recolouring(source, target, 1e-12)
    np.testing.assert_allclose(np.cov(moved.numpy().T), np.cov(target.numpy().T), atol=1e-8)
    cs, ct = (
        torch.from_numpy(np.cov(x.numpy().T)) + torch.eye(4, dtype=DOUBLE) for x in (source, target)
    )
    expected = scipy.linalg.fractional_matrix_power(cs.numpy(), -0.5) @ scipy.linalg.sqrtm(
        ct.numpy()
    )
    np.testing.assert_allclose(coral.recolouring(source, target, 1.0).numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_geodesic_flow_kernel_is_the_integral_over_the_subspaces(k):
    d = 7
    source, target = (torch.linalg.qr(points(d, k, seed=s)).Q for s in (0, 1))
    root = gfk.flow(source, target)
    u, cosines, vh = torch.linalg.svd(source.T @ target)
    angles = cosines.clamp(max=1).acos()
    begin = source @ u
    beside = (target @ vh.T - begin * cosines) / angles.sin()
    total = torch.zeros(d, d, dtype=DOUBLE)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        phi = begin * torch.cos(t * angles) + beside * torch.sin(t * angles)
        torch.testing.assert_close(phi.T @ phi, torch.eye(k, dtype=DOUBLE))
        total += w * phi @ phi.T
    torch.testing.assert_close(root @ root.T, total)


def test_the_flow_between_equal_subspaces_is_their_projection():
    basis = torch.linalg.qr(points(6, 3)).Q
    root = gfk.flow(basis, basis)
    torch.testing.assert_close(root @ root.T, basis @ basis.T)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("columns", [1, 4])
def test_transfer_components_solve_the_generalised_eigenproblem(dense, columns, monkeypatch):
    monkeypatch.setattr(kernels, "DENSE", 1000 if dense else 0)
    x, n, mu, k = points(40, 12), 25, 0.3, 3
    source = torch.arange(40) < n
    y = classes(40, columns)
    contrasts = torch.cat(
        [kernels.means_apart(source & (y == c), ~source & (y == c)) for c in range(columns)], dim=1
    )
    w = kernels.transfer_components(x, contrasts, mu, k)
    h = torch.eye(40, dtype=DOUBLE) - 1 / 40
    left = (x.T @ h @ x).numpy()
    right = (x.T @ contrasts @ contrasts.T @ x).numpy() + mu * np.eye(12)
    values, vectors = scipy.linalg.eigh(left, right)
    np.testing.assert_allclose(
        w.numpy(), signed(torch.from_numpy(vectors[:, ::-1][:, :k].copy())).numpy(), atol=1e-7
    )
    np.testing.assert_allclose((w.T @ torch.from_numpy(left) @ w).diagonal(), values[::-1][:k])


def test_the_contrast_of_two_groups_is_mmds():
    source = torch.arange(7) < 3
    column = kernels.means_apart(source, ~source)
    x = points(7, 4)
    torch.testing.assert_close((column.T @ x).squeeze(0), x[:3].mean(0) - x[3:].mean(0))


# ---- weights


def test_kernel_mean_matching_is_the_quadratic_programs_optimum():
    source, target = points(25, 2), points(30, 2, seed=1, shift=0.7)
    gamma, bound, slack = torch.tensor(0.4, dtype=DOUBLE), 3.0, 0.1
    k = kernels.rbf(source, source, gamma)
    kappa = kernels.rbf(source, target, gamma).sum(1) * 25 / 30
    beta, converged = kmm.matched(k, kappa, bound, slack)
    assert converged

    def value(b):
        return 0.5 * b @ k.numpy() @ b - kappa.numpy() @ b

    ends = [
        {"type": "ineq", "fun": lambda b: 25 * (1 + slack) - b.sum()},
        {"type": "ineq", "fun": lambda b: b.sum() - 25 * (1 - slack)},
    ]
    found = scipy.optimize.minimize(
        value,
        np.ones(25),
        jac=lambda b: k.numpy() @ b - kappa.numpy(),
        bounds=[(0, bound)] * 25,
        constraints=ends,
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    assert float(beta.min()) >= 0
    assert float(beta.max()) <= bound
    assert abs(float(beta.sum()) - 25) <= 25 * slack + 1e-6
    assert value(beta.numpy()) <= found.fun + 1e-7


def test_the_projection_is_the_nearest_point_of_the_set():
    x = 3 * points(12, 1).squeeze(1)
    for bound, slack in product((1.2, 2.0), (0.0, 0.1)):
        found = kmm.project(x, bound, slack)
        total = 12 * np.array([1 - slack, 1 + slack])
        best = scipy.optimize.minimize(
            lambda b: ((b - x.numpy()) ** 2).sum(),
            np.ones(12),
            bounds=[(0, bound)] * 12,
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda b, t=total, s=s: s * (t[(1 + s) // 2] - b.sum())}
                for s in (1, -1)
            ],
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        np.testing.assert_allclose(found.numpy(), best.x, atol=1e-5)


def test_kliep_climbs_to_the_likelihoods_maximum():
    source, target = points(40, 1), points(30, 1, seed=1, shift=0.8)
    gamma = torch.tensor(0.5, dtype=DOUBLE)
    of_target, of_source = (
        kernels.rbf(target, target[:6], gamma),
        kernels.rbf(source, target[:6], gamma).mean(0),
    )
    a = kliep.ratio(of_target, of_source)
    assert float(a.min()) >= 0
    torch.testing.assert_close(of_source @ a, torch.ones((), dtype=DOUBLE))
    found = scipy.optimize.minimize(
        lambda v: -np.log(of_target.numpy() @ v).sum(),
        np.full(6, 1 / float(of_source.sum())),
        bounds=[(0, None)] * 6,
        method="SLSQP",
        constraints=[{"type": "eq", "fun": lambda v: of_source.numpy() @ v - 1}],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert float(-(of_target @ a).log().sum()) <= found.fun + 1e-5


# ---- optimal transport


@pytest.mark.parametrize("entropy", [0.5, 0.01])
def test_sinkhorns_plan_has_its_marginals_and_its_form(entropy):
    cost = torch.cdist(points(9, 2), points(7, 2, seed=1)).square()
    cost = cost / cost.max()
    plan = ot_da.sinkhorn(cost, entropy)
    torch.testing.assert_close(
        plan.sum(1), torch.full((9,), 1 / 9, dtype=DOUBLE), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        plan.sum(0), torch.full((7,), 1 / 7, dtype=DOUBLE), atol=1e-6, rtol=0
    )
    # u_i + v_j of the optimum, and of no other plan with these marginals
    potentials = plan.log() + cost / entropy
    torch.testing.assert_close(
        potentials, potentials[:, :1] + potentials[:1] - potentials[0, 0], atol=1e-6, rtol=0
    )


def test_little_entropy_is_the_assignment():
    source, target = points(12, 2), points(12, 2, seed=1)
    cost = torch.cdist(source, target).square()
    rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
    plan = ot_da.sinkhorn(cost / cost.max(), 2e-4)
    assert plan.argmax(1).tolist() == columns[rows].tolist()


def test_the_term_of_classes_keeps_them_apart():
    source, y = points(20, 2), classes(20, 2)
    cost = torch.cdist(source, points(20, 2, seed=1)).square()
    cost = cost / cost.max()

    def mixed(plan):
        share = torch.stack([plan[y == c].sum(0) for c in (0, 1)])
        return float(share.min(0).values.sum())

    assert mixed(ot_da.by_class(cost, y, 0.05, 0.5)) < 0.5 * mixed(
        ot_da.by_class(cost, y, 0.05, 0.0)
    )


# ---- structural correspondence


def test_without_a_pivot_the_cure_is_named():
    made = scl.SCL.__new__(scl.SCL)
    torch.nn.Module.__init__(made)
    made.pivots, made.dimensions, made.share, made.decay, made.notes = 5, 2, 1.0, 0.1, []
    with pytest.raises(ConfigError, match="scale=each"):
        made.fit(Domains(points(9, 3), classes(9, 2), points(9, 3, shift=1000.0), 2))


def test_mutual_information_is_scikit_learns():
    from sklearn.metrics import mutual_info_score

    here, y = points(80, 6) > 0, classes(80, 3)
    expected = [mutual_info_score(here[:, j].numpy(), y.numpy()) for j in range(6)]
    np.testing.assert_allclose(scl.mutual_information(here, y, 3).numpy(), expected, atol=1e-12)


def test_the_predictors_are_at_the_losses_minimum():
    x, here = points(50, 3), points(50, 2, seed=1) > 0
    w = scl.huber(x, here, 0.01)

    def loss(v, j):
        margin = (here[:, j].numpy() * 2.0 - 1) * (x.numpy() @ v[:3] + v[3])
        return (
            np.where(margin < -1, -4 * margin, np.maximum(1 - margin, 0) ** 2).mean()
            + 0.01 * (v[:3] ** 2).sum()
        )

    for j in range(2):
        found = scipy.optimize.minimize(loss, np.zeros(4), args=(j,), tol=1e-12)
        np.testing.assert_allclose(w[:, j].numpy(), found.x[:3], atol=1e-4)
