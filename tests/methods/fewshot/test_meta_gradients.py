"""Meta-gradients in float64 against finite differences and closed forms; batching of tasks changes
nothing."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.covers import pairs
from support.meta_learners import SHAPE, SHOTS, TASKS, WAYS, batch, made
from tl_runner.methods.batch import Batch, TaskSet
from tl_runner.methods.fewshot import MetaLearner
from tl_runner.methods.fewshot._inner_loop import inner_step
from tl_runner.methods.fewshot.anil import ANIL, linear
from tl_runner.methods.fewshot.fomaml import FOMAML
from tl_runner.methods.fewshot.maml import MAML
from tl_runner.methods.fewshot.meta_sgd import MetaSGD
from tl_runner.methods.fewshot.pretrain_all import PretrainAll
from tl_runner.methods.fewshot.protonet import ProtoNet
from tl_runner.methods.fewshot.reptile import Reptile


def gradients(method: MetaLearner, of: Batch) -> dict[str, Tensor]:
    """By parameter, of the method's loss."""
    method.zero_grad()
    losses, _ = method.step(of, 0.0)
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def differences(method: MetaLearner, of: Batch, step: float = 1e-6) -> dict[str, Tensor]:
    """The same by central differences."""
    found = {}
    with torch.no_grad():
        for name, p in method.named_parameters():
            found[name] = torch.zeros_like(p)
            for i in range(p.numel()):
                ends = []
                for sign in (1, -1):
                    p.view(-1)[i] += sign * step
                    ends.append(sum(method.step(of, 0.0)[0].values()).item())
                    p.view(-1)[i] -= sign * step
                found[name].view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
    return found


def close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float, atol: float = 1e-12) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=rtol, atol=atol) for k in a)


KINDS = [(MAML, 1), (MAML, 3), (ANIL, 1), (ANIL, 3), (MetaSGD, 1), (MetaSGD, 3), (PretrainAll, 0)]


@pytest.mark.parametrize(("learner", "norm"), pairs(KINDS, ["no norm", "transductive", "support"]))
def test_the_meta_gradient_is_that_of_finite_differences(learner, norm):
    kind, steps = learner
    method = made(
        kind, steps, norm=norm != "no norm", bn="transductive" if norm == "no norm" else norm
    )
    assert close(gradients(method, batch(2)), differences(method, batch(2)), rtol=1e-5, atol=1e-8)


def test_the_meta_gradient_of_numbers_is_that_of_finite_differences():
    method = made(MAML, 3, 0.1, classes=1)
    assert close(
        gradients(method, batch(2, numbers=True)),
        differences(method, batch(2, numbers=True)),
        rtol=1e-5,
        atol=1e-8,
    )


def manual(
    method: MetaLearner,
    x: Tensor,
    y: Tensor,
    asked: Tensor,
    truth: Tensor,
    steps: int,
    rate: float,
    second: bool,
) -> dict[str, Tensor]:
    """One task's meta-gradient by torch.autograd alone."""
    first = {k: p.detach().clone().requires_grad_() for k, p in method.named_parameters()}
    weights = dict(first)
    call = lambda w, z: torch.func.functional_call(method, w, (z,))  # noqa: E731
    for _ in range(steps):
        found = torch.autograd.grad(
            F.cross_entropy(call(weights, x), y), list(weights.values()), create_graph=second
        )
        weights = {k: w - rate * g for (k, w), g in zip(weights.items(), found, strict=True)}
    loss = F.cross_entropy(call(weights, asked), truth)
    if second:
        return dict(zip(first, torch.autograd.grad(loss, list(first.values())), strict=True))
    # at the adapted weights
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


@pytest.mark.parametrize(("kind", "second"), [(MAML, True), (FOMAML, False)])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_are_those_of_plain_autograd(kind, second, steps):
    method, of = made(kind, steps), batch()
    each = [
        manual(
            method,
            *(t[i] for t in (of.support.x, of.support.y, of.query.x, of.query.y)),
            steps,
            0.4,
            second,
        )
        for i in range(TASKS)
    ]
    expected = {k: torch.stack([own[k] for own in each]).mean(0) for k in each[0]}
    assert close(gradients(method, of), expected, rtol=1e-10)


def test_pretraining_on_all_tasks_is_their_joint_loss():
    method, of = made(PretrainAll, 3), batch()
    x, y = (both.flatten(0, 1) for both in whole(of))
    assert method.step(of, 0.0)[0]["query"].item() == pytest.approx(
        F.cross_entropy(method(x), y).item(), rel=1e-12
    )


def test_first_order_is_not_second_order():
    second, first = gradients(made(MAML), batch()), gradients(made(FOMAML), batch())
    flat = [torch.cat([g.flatten() for g in own.values()]) for own in (second, first)]
    assert (flat[0] - flat[1]).norm() / flat[0].norm() > 0.05


class Line(MAML):
    """y = theta z: the loss of one point is a / 2 (theta - c)^2 with a = 2 z^2, c = y / z."""

    def theta(self) -> dict[str, Tensor]:
        return {"theta": self.head.bias}

    def outputs(self, weights: dict[str, Tensor], z: Tensor) -> Tensor:
        return weights["theta"] * z.flatten(1)[:, :1]


class FirstOrderLine(FOMAML):
    theta, outputs = Line.theta, Line.outputs


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_closed_form_of_a_quadratic(steps):
    alpha, zs, ys, zq, yq = 0.07, 1.3, 0.4, 0.8, -1.1
    a, c, b, d = 2 * zs**2, ys / zs, 2 * zq**2, yq / zq

    def one(z: float, y: float) -> TaskSet:
        x = torch.full((1, 1, *SHAPE), z, dtype=torch.float64)
        return TaskSet(
            x, torch.tensor([[y]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.int64), 1
        )

    of = Batch(support=one(zs, ys), query=one(zq, yq))
    for kind, factor in ((Line, (1 - alpha * a) ** steps), (FirstOrderLine, 1.0)):
        method = made(kind, steps, alpha, classes=1)
        theta = method.head.bias.item()
        adapted = c + (theta - c) * (1 - alpha * a) ** steps
        assert gradients(method, of)["head.bias"].item() == pytest.approx(
            b * (adapted - d) * factor, rel=1e-12
        )


KINDS = [MAML, FOMAML, ANIL, MetaSGD]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bn", ["transductive", "support"])
def test_tasks_together_are_tasks_one_by_one(kind, bn):
    together, alone = (
        made(kind, 2, norm=True, bn=bn, batching=batching) for batching in ("vmap", "loop")
    )
    assert close(gradients(together, batch()), gradients(alone, batch()), rtol=1e-10)
    in_single = [gradients(m.float(), _single(batch())) for m in (together, alone)]
    assert all(
        torch.allclose(in_single[0][k], in_single[1][k], rtol=1e-4, atol=1e-6) for k in in_single[0]
    )


def _single(of: Batch) -> Batch:
    return Batch(**{k: TaskSet(v.x.float(), v.y, v.index, v.ways) for k, v in vars(of).items()})


def test_a_batch_of_tasks_in_parts_has_the_same_mean_and_gradient():
    method, of = made(MAML), batch()
    whole = gradients(method, of)
    parts = [gradients(method, of.part(i, 4)) for i in range(4)]
    assert close(whole, {k: torch.stack([p[k] for p in parts]).mean(0) for k in whole}, rtol=1e-12)


def test_the_inner_loss_is_a_mean_over_the_support_set():
    method, of = made(MAML), batch()
    twice = TaskSet(
        torch.cat([of.support.x] * 2, 1),
        torch.cat([of.support.y] * 2, 1),
        torch.cat([of.support.index] * 2, 1),
        WAYS,
    )
    assert close(
        gradients(method, of), gradients(method, Batch(support=twice, query=of.query)), rtol=1e-10
    )


def test_the_query_loss_is_of_the_last_step_alone():
    method, of = made(MAML, 2), batch(1)
    weights = {k: p.detach() for k, p in method.named_parameters()}
    for _ in range(2):
        weights = inner_step(
            method.outputs, weights, dict.fromkeys(weights, 0.4), of.support.x[0], of.support.y[0]
        )
    expected = F.cross_entropy(
        torch.func.functional_call(method, weights, (of.query.x[0],)), of.query.y[0]
    )
    assert method.step(of, 0.0)[0]["query"].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("kind", [MAML, FOMAML, ANIL])
def test_the_loss_of_every_step_is_the_mean_over_numbers_of_steps(kind):
    every = gradients(made(kind, 3, every_step=True), batch())
    alone = [gradients(made(kind, n), batch()) for n in (1, 2, 3)]
    assert close(
        every, {k: torch.stack([own[k] for own in alone]).mean(0) for k in every}, rtol=1e-9
    )


def test_anil_moves_the_head_inside_and_the_body_outside():
    method, of = made(ANIL, 2), batch(1)
    assert {*method.theta()} == {"head.weight", "head.bias"}
    found = gradients(method, of)
    assert all(
        found[name].abs().max() > 0
        for name in ("encoder.layers.1.weight", "head.weight", "head.bias")
    )
    features = method.encoder(of.support.x[0]).detach()
    weight, bias = (
        method.head.weight.detach().clone().requires_grad_(),
        method.head.bias.detach().clone().requires_grad_(),
    )
    loss = F.cross_entropy(F.linear(features, weight, bias), of.support.y[0])
    g = torch.autograd.grad(loss, (weight, bias))
    theta = method.theta()
    adapted = inner_step(linear, theta, dict.fromkeys(theta, 0.4), features, of.support.y[0])
    assert torch.allclose(adapted["head.weight"], weight - 0.4 * g[0], rtol=1e-12)
    assert torch.allclose(adapted["head.bias"], bias - 0.4 * g[1], rtol=1e-12)


def test_meta_sgd_learns_its_rates():
    method = made(MetaSGD, 1, 0.2)
    found = gradients(method, batch())
    assert sum(name.startswith("alpha.") for name in found) == 4
    assert all(found[name].abs().max() > 0 for name in found if name.startswith("alpha."))
    same = made(MAML, 1, 0.2)
    assert method.step(batch(), 0.0)[0]["query"].item() == pytest.approx(
        same.step(batch(), 0.0)[0]["query"].item(), rel=1e-6
    )


class Trained:
    """Reptile's inner loop by torch.optim."""

    KINDS: ClassVar = {
        "sgd": partial(torch.optim.SGD),
        "adam": partial(torch.optim.Adam, betas=(0.0, 0.999)),
    }


def whole(of: Batch) -> tuple[Tensor, Tensor]:
    """Support and query sets together."""
    return torch.cat([of.support.x, of.query.x], 1), torch.cat([of.support.y, of.query.y], 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batching", ["vmap", "loop"])
@pytest.mark.parametrize("size", [None, 5])
def test_reptile_moves_towards_the_mean_of_what_tasks_end_at(optimizer, batching, size):
    options = {"optimizer": optimizer, "batch": size}
    method, of, steps = made(Reptile, 4, 0.05, batching=batching, **options), batch(), 4
    x, y = whole(of)
    torch.manual_seed(7)
    order = method.order(x, steps)
    ends = []
    for i in range(TASKS):
        copy = made(Reptile, steps, 0.05, **options)
        copy.load_state_dict(method.state_dict())
        own = Trained.KINDS[optimizer](copy.parameters(), lr=0.05)
        for rows in order[i]:
            own.zero_grad()
            F.cross_entropy(copy(x[i][rows]), y[i][rows]).backward()
            own.step()
        ends.append({k: p.detach() for k, p in copy.named_parameters()})
    first = {k: p.detach() for k, p in method.named_parameters()}
    expected = {k: w - torch.stack([end[k] for end in ends]).mean(0) for k, w in first.items()}
    torch.manual_seed(7)
    assert close(gradients(method, of), expected, rtol=1e-7, atol=1e-10)


def test_reptile_uses_every_image_of_a_task_before_one_again():
    method, (x, _) = made(Reptile, 5, optimizer="sgd", batch=5), whole(batch())
    order = method.order(x, 5)
    assert order.shape == (TASKS, 5, 5)  # 25 of 12 images
    for task in order.flatten(1):
        assert (
            task[:12].sort().values.tolist() == task[12:24].sort().values.tolist() == [*range(12)]
        )
        assert task[:12].tolist() != task[12:24].tolist()
    assert len({tuple(task.flatten().tolist()) for task in order}) == TASKS


def test_reptile_with_one_step_of_sgd_is_joint_training():
    method, of = made(Reptile, 1, 0.3, optimizer="sgd", batch=None), batch()
    copy = made(Reptile, 1, 0.3, optimizer="sgd", batch=None)
    torch.stack(
        [F.cross_entropy(copy(x), y) for x, y in zip(*whole(of), strict=True)]
    ).mean().backward()
    joint = {k: 0.3 * p.grad for k, p in copy.named_parameters()}
    assert close(gradients(method, of), joint, rtol=1e-8)


@pytest.mark.parametrize("bn", ["running", "transductive", "support"])
@pytest.mark.parametrize("norm", [False, True])
def test_prototypes_by_brute_force(bn, norm):
    method, of = made(ProtoNet, norm=norm and bn != "running", bn=bn), batch()
    said = method.logits(of.support, of.query)

    def features(x: Tensor, by: Tensor) -> Tensor:
        """Of inputs x, normalised by the statistics of inputs ``by``."""
        linear, reference = method.encoder.layers[:2](x), method.encoder.layers[:2](by)
        if norm and bn != "running":
            linear = (linear - reference.mean(0)) / (reference.var(0, unbiased=False) + 1e-5).sqrt()
        return torch.tanh(linear)

    for t in range(TASKS):
        x, query = of.support.x[t], of.query.x[t]
        z, asked = features(x, x), features(query, x if bn == "support" else query)
        for k in range(WAYS):
            prototype = torch.stack([z[i] for i in range(len(z)) if of.support.y[t, i] == k]).mean(
                0
            )
            assert torch.allclose(
                said[t, :, k],
                torch.stack([-((a - prototype) ** 2).sum() for a in asked]),
                rtol=1e-12,
            )
    loss = method.step(of, 0.0)[0]["query"]
    assert loss.item() == pytest.approx(
        torch.stack([F.cross_entropy(said[t], of.query.y[t]) for t in range(TASKS)]).mean().item()
    )


def test_prototypes_by_running_statistics_take_those_of_training_in_tests():
    method, of = made(ProtoNet, norm=True, bn="running"), batch()
    norm = method.encoder.layers[2]
    every = torch.cat([of.support.x, of.query.x], 1).flatten(0, 1)
    linear = method.encoder.layers[:2](every)
    method.train()
    said = method.logits(of.support, of.query)
    # of all tasks' images at once
    assert torch.allclose(norm.running_mean, 0.1 * linear.mean(0), rtol=1e-12)
    features = torch.tanh(
        (linear - linear.mean(0)) / (linear.var(0, unbiased=False) + norm.eps).sqrt()
    )
    assert torch.allclose(said, by_hand(features, of), rtol=1e-10)
    method.eval()
    features = torch.tanh((linear - norm.running_mean) / (norm.running_var + norm.eps).sqrt())
    assert torch.allclose(method.logits(of.support, of.query), by_hand(features, of), rtol=1e-10)
    alone = Batch(
        support=of.support,
        query=TaskSet(of.query.x[:, :1], of.query.y[:, :1], of.query.index[:, :1], WAYS),
    )
    # not transductive
    assert torch.allclose(
        method.logits(alone.support, alone.query), by_hand(features, of)[:, :1], rtol=1e-10
    )


def by_hand(features: Tensor, of: Batch) -> Tensor:
    """Minus the squared distances of query features to class means, of all images' features (T *
    2n, d)."""
    z, asked = features.unflatten(0, (TASKS, -1)).split(WAYS * SHOTS, 1)
    prototypes = z.unflatten(1, (WAYS, SHOTS)).mean(2)
    return -torch.cdist(asked, prototypes).square()
