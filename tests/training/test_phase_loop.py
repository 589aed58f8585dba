"""The loop's own promises, on a made-up method of one linear layer: order, repeats, gates,
schedules, counters."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from support.phase_loops import CPU, SGD, Toy, go, phase_loop, split
from tl_runner import randomness
from tl_runner.methods.phases import Gate, Update
from tl_runner.training import schedules
from tl_runner.training.batches import Batches
from tl_runner.training.phase_loop import Meter


def test_updates_run_in_order_with_repeats_and_progress_over_the_phase():
    toy = Toy()
    loop = phase_loop(
        toy,
        [
            Update("a", [toy.a], SGD, toy.step_of("a"), repeats=2),
            Update("b", [toy.b], SGD, toy.step_of("b")),
        ],
    )
    go(loop, 0)
    go(loop, 1)
    assert toy.seen[:3] == ["a0.00", "a0.00", "b0.00"]
    assert toy.seen[-1] == f"b{5 / 6:.2f}"
    assert loop.meter.counts == {"loss_a": 3, "loss_b": 3, "signal": 3}


def test_one_sgd_step_is_the_one_by_hand():
    toy = Toy()
    loop = phase_loop(toy, [Update("a", [toy.a], SGD, toy.step_of("a"))], epochs=1, steps=1)
    loop.batches.begin_epoch(0)
    weight = toy.a.weight.clone().requires_grad_()
    x = loop.batches[0].source.x.flatten(1)
    (gradient,) = torch.autograd.grad((x @ weight.T + toy.a.bias).square().mean(), weight)
    go(loop)
    torch.testing.assert_close(toy.a.weight.detach(), (weight - 0.1 * gradient).detach())


def test_only_the_running_update_has_gradients_and_its_networks_train():
    toy = Toy()
    toy.c = nn.Dropout(0.5)
    loop = phase_loop(
        toy,
        [Update("a", [toy.a], SGD, toy.step_of("a")), Update("b", [toy.b], SGD, toy.step_of("b"))],
    )
    go(loop)
    assert [p.requires_grad for p in toy.a.parameters()] == [False, False]
    assert [p.requires_grad for p in toy.b.parameters()] == [True, True]
    assert toy.a.training
    assert toy.b.training
    assert not toy.c.training


def test_a_gate_opens_and_shuts_on_window_means():
    toy = Toy()
    gate = Gate("signal", above=0.5, window=2)
    loop = phase_loop(
        toy,
        [
            Update("a", [toy.a], SGD, toy.step_of("a")),
            Update("b", [toy.b], SGD, toy.step_of("b"), gate=gate),
        ],
        steps=4,
    )
    toy.signal = 0.0
    go(loop, 0)
    # open for the first window, then shut
    assert [s[0] for s in toy.seen] == ["a", "b", "a", "b", "a", "a"]
    assert loop.rested() is None
    go(loop, 1)
    assert loop.rested() == "b"
    toy.signal = 1.0
    go(loop, 2)
    assert loop.rested() is None


def test_state_goes_through_a_checkpoint():
    toy, other = Toy(), Toy()
    gate = Gate("signal", above=0.5, window=3)

    def make(method):
        return phase_loop(
            method,
            [Update("a", [method.a], {**SGD, "momentum": 0.9}, method.step_of("a"), gate=gate)],
            steps=5,
        )

    loop, copy = make(toy), make(other)
    loop.begin_epoch(0)
    loop.run_epoch(0, 0, lambda done: done == 2)
    other.load_state_dict(toy.state_dict())
    copy.batches.begin_epoch(0)
    copy.load_state_dict(deepcopy(loop.state_dict()))
    loop.run_epoch(0, 2, lambda done: False)
    copy.run_epoch(0, 2, lambda done: False)
    assert torch.equal(toy.a.weight, other.a.weight)
    assert loop.meter.means() == copy.meter.means()


def test_meter_means():
    meter = Meter()
    for value in (1.0, 2.0, 6.0):
        meter.add({"x": torch.tensor(value)})
    meter.add({"y": torch.tensor(5.0)})
    assert meter.means() == {"x": 3.0, "y": 5.0}


@pytest.mark.parametrize(("n", "steps"), [(10, 3), (10, 12), (1, 2)])
def test_an_epoch_visits_every_sample_before_any_twice(n, steps):
    batches = Batches({"source": split(n)}, 2, steps, CPU, None, (0, "p"))
    batches.begin_epoch(0)
    order = torch.cat([batches[i].source.index for i in range(steps)])
    assert len(order) == 2 * steps
    first = order[:n] if len(order) >= n else order
    assert len(first.unique()) == len(first)
    again = Batches({"source": split(n)}, 2, steps, CPU, None, (0, "p"))
    again.begin_epoch(0)
    assert torch.equal(order, torch.cat([again[i].source.index for i in range(steps)]))


def test_batches_hold_the_samples_they_name():
    data = split(10)
    batches = Batches(
        {"source": data, "target": split(6, labels=False)}, 4, None, CPU, None, (3, "p")
    )
    assert batches.steps == 2
    batches.begin_epoch(0)
    batch = batches[1]
    torch.testing.assert_close(batch.source.x, data.x[batch.source.index].float() / 255)
    assert torch.equal(batch.source.y, data.y[batch.source.index])
    assert batch.target.y is None


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        ("constant", (1, 1, 1)),
        ("linear", (1, 0.5, 0.25)),
        ("cosine", (1, 0.5, (1 + math.cos(0.75 * math.pi)) / 2)),
        ("step", (1, 0.1, 0.01)),
        ("inverse", (1, 6**-0.75, 8.5**-0.75)),
    ],
)
def test_schedules(schedule, points):
    for progress, expected in zip((0, 0.5, 0.75), points, strict=True):
        assert schedules.factor({**SGD, "schedule": schedule}, progress) == pytest.approx(expected)
    assert schedules.factor({**SGD, "warmup": 0.5}, 0.25) == pytest.approx(0.5)


def test_streams_are_told_apart_and_repeat():
    assert randomness.derive(0, "a", 1) == randomness.derive(0, "a", 1)
    seeds = {randomness.derive(s, n, i) for s in range(3) for n in ("a", "b") for i in range(3)}
    assert len(seeds) == 18
    before = torch.get_rng_state()
    with randomness.seeded(0, "x"):
        first = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with randomness.seeded(0, "x"):
        assert torch.equal(first, torch.rand(3))
