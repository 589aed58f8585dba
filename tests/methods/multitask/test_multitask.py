"""Several tasks on one network: each weighting against its closed form, the baselines, the labels,
the record."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support.methods import build, go, loop_of, same, state
from support.runs import TINY
from tl_runner.data.augment import Affine
from tl_runner.data.tasks.multitask_digits import drawn, slant
from tl_runner.losses.multitask import dynamic_weight_average, gradnorm, pcgrad, uncertainty
from tl_runner.metrics.regression import regression


def toy(*words):
    """(method, task, device) of the embedded tasks."""
    _, task, method, device = build("method=multitask", *words)
    return method, task, device


def last(method, task, device, **more):
    return loop_of(method, len(method.phases()) - 1, task, device, **more)


# ---- weightings


@pytest.mark.parametrize(
    "words",
    [
        ("method=multitask", "method.weighting=gate"),
        ("method=multi_teacher", "method.weighting=pcgrad"),
    ],
)
def test_a_weighting_of_another_method_is_refused(tl_run, tmp_path, words):
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2
    key, word = words[1].split("=")
    assert f"{key}='{word}' should be one of" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("regression_task", [True, False])
def test_uncertainty_is_least_where_the_variance_is_the_loss(regression_task):
    loss = torch.tensor(0.37, dtype=torch.float64)
    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([s], max_iter=100, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        value = uncertainty(loss, s, regression_task)
        value.backward()
        return value

    optimizer.step(closure)
    assert s.exp().item() == pytest.approx(0.37 * (1 if regression_task else 2), rel=1e-4)
    half = 0.5 if regression_task else 1.0
    assert uncertainty(loss, torch.tensor(-2.0), regression_task).item() == pytest.approx(
        half * np.exp(2.0) * 0.37 - 1.0, rel=1e-6
    )


def test_uncertaintys_variances_learn_without_weight_decay():
    method, task, device = toy(
        "method.weighting=uncertainty", "method.baselines=false", "train.optimizer.weight_decay=0.1"
    )
    loop = last(method, task, device)
    group = loop.updates[0].optimizer.param_groups[1]
    assert group["params"][0] is method.log_variances
    assert group["weight_decay"] == 0
    go(loop)
    assert (method.log_variances != 0).all()


def test_dwa_by_hand():
    last_means, before = torch.tensor([0.5, 1.0]), torch.tensor([1.0, 1.0])
    e = np.exp(np.array([0.5, 1.0]) / 2)
    np.testing.assert_allclose(
        dynamic_weight_average(last_means, before, 2.0), 2 * e / e.sum(), rtol=1e-6
    )


def test_dwa_weighs_by_the_means_of_the_last_two_epochs():
    method, task, device = toy("method.weighting=dwa", "method.baselines=false")
    loop, means = last(method, task, device, epochs=4), []
    for epoch in range(4):
        loop.begin_epoch(epoch)
        if epoch < 2:
            assert torch.equal(loop.of_epoch["weights"], torch.ones(4))
        else:
            expected = dynamic_weight_average(means[-1], means[-2], 2.0)
            torch.testing.assert_close(loop.of_epoch["weights"], expected, rtol=1e-4, atol=1e-5)
        loop.run_epoch(epoch, 0, lambda done: False)
        found = loop.meter.means()
        means.append(torch.tensor([found[f"loss_{name}"] for name in method.sizes]))


def test_gradnorms_loss_and_gradient_by_hand():
    w = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)
    n, loss, first = (
        torch.tensor(v, dtype=torch.float64) for v in ([2.0, 0.5], [0.5, 1.0], [1.0, 1.0])
    )
    value = gradnorm(w, n, loss, first, 1.5)
    g = np.array([2.0, 0.75])
    target = g.mean() * (np.array([0.5, 1.0]) / 0.75) ** 1.5
    assert value.item() == pytest.approx(np.abs(g - target).sum())
    value.backward()
    np.testing.assert_allclose(w.grad, np.sign(g - target) * n.numpy())


def test_gradnorms_weights_are_learned_and_add_up():
    method, task, device = toy("method.weighting=gradnorm", "method.baselines=false")
    go(last(method, task, device))
    assert method.weights.sum().item() == pytest.approx(4, abs=1e-5)
    assert method.weights.std() > 0
    assert (method.first > 0).all()


def test_pcgrad_by_brute_force():
    draw = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 5, generator=draw, dtype=torch.float64)
    gradients[1] = -gradients[0] + 0.3 * gradients[1]  # a conflict
    orders = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0]])
    total = np.zeros(5)
    for i in range(3):
        own = gradients[i].numpy().copy()
        for j in orders[i].tolist():
            other = gradients[j].numpy()
            if j != i and own @ other < 0:
                own -= own @ other / (other @ other) * other
        total += own
    np.testing.assert_allclose(pcgrad(gradients, orders), total, rtol=1e-10)
    agreeing = torch.eye(3, dtype=torch.float64)
    assert torch.equal(pcgrad(agreeing, orders), agreeing.sum(0))


def test_without_a_conflict_pcgrad_is_the_plain_gradient():
    method, task, device = toy("method.weighting=pcgrad", "method.baselines=false")
    loop = last(method, task, device)
    loop.begin_epoch(0)
    loop._learn(loop.updates[0])
    batch = loop.batches[0]

    def gradients(how):
        method.zero_grad()
        how(method.step(batch, 0.0)[0])
        return {name: p.grad.clone() for name, p in method.shared.named_parameters()}

    plain = gradients(lambda losses: sum(losses.values()).backward())
    same_task = gradients(
        lambda losses: method.weighting.gradients(
            {t: losses["class"] if t == "class" else 0 * v for t, v in losses.items()}
        )
    )
    alone = gradients(
        lambda losses: (
            losses["class"].backward()
            or sum(0 * v for v in method.step(batch, 0.0)[0].values()).backward()
        )
    )
    surgery = gradients(method.weighting.gradients)
    for name in plain:
        if name.startswith("layers"):
            torch.testing.assert_close(surgery[name], plain[name])
        else:
            torch.testing.assert_close(same_task[name], alone[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weighting", ["gradnorm", "pcgrad", "dwa"])
def test_what_goes_by_whole_batches_is_not_cut_into_parts(tl_run, weighting):
    ended = tl_run(*TINY, "method=multitask", f"method.weighting={weighting}", "train.accumulate=2")
    assert ended.code == 2
    assert "in the phase together" in ended.err


# ---- baselines


def test_each_task_alone_starts_where_all_start_and_touches_nothing_else():
    method, task, device = toy()
    assert [p.name for p in method.phases()] == [
        "single_class",
        "single_parity",
        "single_weight",
        "single_slant",
        "together",
    ]
    for name, network in method.single:
        assert same(state(network.encoder), state(method.shared.encoder))
        assert same(state(network.heads[name]), state(method.shared.heads[name]))
    shared = state(method.shared)
    go(loop_of(method, 1, task, device))
    assert same(shared, state(method.shared))
    assert not same(state(method.single[1][1]), state(method.single[0][1]))


def test_the_equal_weights_beside_a_weighting_are_those_of_equal_itself():
    methods = {}
    for weighting, number in (("uncertainty", 4), ("equal", 4)):
        method, task, device = toy(f"method.weighting={weighting}")
        phase = method.phases()[number]
        assert phase.name == {"uncertainty": "equal", "equal": "together"}[weighting]
        loop = loop_of(method, number, task, device)
        loop.batches.stream = (0, "the same")
        go(loop)
        methods[weighting] = method
    assert same(state(methods["uncertainty"].equal[0]), state(methods["equal"].shared))
    assert len(methods["uncertainty"].phases()) == 6


def test_one_task_of_equal_weighting_is_that_task_alone():
    method, task, device = toy("method.tasks=[class]")
    for number in (0, 1):
        randomness_free = loop_of(method, number, task, device)
        randomness_free.batches.stream = (0, "the same")
        go(randomness_free)
    assert same(state(method.single[0][1]), state(method.shared))


# ---- data and record


def test_labels_are_of_what_is_drawn():
    split = drawn(
        3,
        Affine(rotate=15, scale=0.2, stretch=0.3, translate=0.1),
        torch.Generator().manual_seed(0),
    )
    assert len(split) == 12 * 10 * 3
    assert split.also["slant"].abs().max() < 1e-3  # no shear, whatever else
    assert torch.equal(split.also["parity"], split.y % 2)
    assert split.also["weight"].float().mean().item() == pytest.approx(5 / 12)
    bold, thin = (split.x[split.also["weight"] == w].float().mean() for w in (1, 0))
    assert bold > 1.1 * thin


def test_the_slant_is_the_shear_of_the_map():
    affine = Affine(rotate=30, scale=0.5, stretch=0.5, shear=25)
    theta = affine.theta(50, torch.Generator().manual_seed(3))
    u = torch.rand(50, 6, generator=torch.Generator().manual_seed(3)) * 2 - 1
    torch.testing.assert_close(slant(theta), u[:, 1] * 25, atol=1e-3, rtol=0)


def test_regression_metrics_by_hand():
    said, y = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 2.0])
    assert regression(said, y) == pytest.approx(
        {"mae": 1.0, "rmse": (5 / 3) ** 0.5, "r2": 1 - 5 / 2}
    )
    assert "r2" not in regression(said, torch.ones(3))


def test_the_record_has_every_task_alone_and_together_and_how_they_relate(tl_run, tmp_path):
    ended = tl_run(*TINY, "method=multitask", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    alone = {p["name"]: p["metrics"] for p in result["phases"][:-1]}
    assert "accuracy" in alone["single_class"]["target_test"]
    assert "accuracy" in alone["single_parity"]["target_test_parity"]
    assert set(alone["single_slant"]["target_test_slant"]) == {"mae", "rmse", "r2"}
    assert {"target_test", "target_test_parity", "target_test_weight", "target_test_slant"} <= set(
        result["metrics"]
    )
    found = result["findings"]
    assert found["tasks"] == ["class", "parity", "weight", "slant"]
    matrix = np.array(found["relationships"])
    assert matrix.shape == (4, 4)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (np.diag(matrix) == 1).all()
    assert (np.abs(matrix) <= 1).all()
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        error = np.abs(
            arrays["target_test_slant/values"] - arrays["target_test_slant/labels"]
        ).mean()
    assert error == pytest.approx(result["metrics"]["target_test_slant"]["mae"], rel=1e-5)


def test_the_cosines_are_of_the_losses_gradients_at_the_features():
    method, task, device = toy("method.baselines=false")
    loop = last(method, task, device)
    loop.begin_epoch(0)
    loop._learn(loop.updates[0])
    batch = loop.batches[0]
    _, metrics = method.step(batch, 0.0)
    features = method.shared.encoder(batch.target.x).detach().requires_grad_()
    grads = {}
    for name in ("class", "slant"):
        method.loss(name, method.shared.heads[name](features), batch.target).backward()
        grads[name], features.grad = features.grad.flatten(), None
    torch.testing.assert_close(
        metrics["cosine_class_slant"],
        F.cosine_similarity(*grads.values(), dim=0),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("method.tasks=[class,paritty]",),
            "has no task paritty. It has class, parity, weight, slant. Did you mean 'parity'",
        ),
        (("method.tasks=[parity]",), "should name class too"),
        (("data=fonts2digits",), "data=multitask_digits has"),
    ],
)
def test_what_is_wrong_is_said(tl_run, words, said):
    ended = tl_run("method=multitask", *words)
    assert ended.code == 2
    assert said in ended.err
