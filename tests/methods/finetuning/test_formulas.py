"""DELTA, feature selection, autoencoders, WiSE-FT, ensembles: formulas by hand, what moves and what
stays."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support.methods import build, go, loop_of, same, state
from support.runs import TINY
from tl_runner.losses.regularisers import feature_map_distance
from tl_runner.metrics.features import chosen


def reached(*words):
    """(method, task, device) with every phase but the last one run, and the last one's loop
    begun."""
    _, task, method, device = build("data.target_labels=5", *words)
    phases = method.phases()
    for number in range(len(phases) - 1):
        if phases[number].hooks.begin:
            phases[number].hooks.begin()
        go(loop_of(method, number, task, device))
    loop = loop_of(
        method,
        len(phases) - 1,
        task,
        device,
        epochs=phases[-1].length.epochs,
        steps=phases[-1].length.steps_per_epoch or 4,
    )
    if loop.phase.hooks.begin:
        loop.phase.hooks.begin()
    return method, task, loop


# ---- DELTA


def test_the_distance_of_feature_maps_by_brute_force():
    draw = torch.Generator().manual_seed(0)
    m, m0 = (torch.randn(3, 4, 2, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    w = torch.rand(4, generator=draw, dtype=torch.float64).softmax(0)
    total = 0.0
    for b in range(3):
        for j in range(4):
            total += 0.5 * w[j].item() * 4 * ((m[b, j] - m0[b, j]) ** 2).sum().item() / 10 / 3
    assert feature_map_distance(m, m0, w).item() == pytest.approx(total, rel=1e-6)
    assert feature_map_distance(m, m, w).item() == 0
    flat = feature_map_distance(m[:, :, 0, 0], m0[:, :, 0, 0], torch.full((4,), 0.25))
    assert flat.item() == pytest.approx(
        0.5 * (m - m0)[:, :, 0, 0].square().sum(1).mean().item(), rel=1e-6
    )
    leaf = m0.clone().requires_grad_()
    feature_map_distance(m.requires_grad_(), leaf, w).backward()
    assert m.grad is not None
    assert leaf.grad is None


def test_delta_starts_at_zero_and_then_holds_the_maps():
    method, _, loop = reached("method=delta", "backbone.dropout=0.0")
    loop.begin_epoch(0)
    loop._learn(loop.updates[0])
    batch = loop.batches[0]
    losses = loop.updates[0].update.step(batch, 0.0)
    assert losses["delta"].item() == 0
    start = state(method.start_network)
    loop.run_epoch(0, 0, lambda done: False)
    assert same(start, state(method.start_network))
    assert loop.updates[0].update.step(batch, 0.0)["delta"].item() > 0


def test_deltas_attention_is_what_the_loss_gains_without_a_channel():
    method, _, loop = reached("method=delta")
    loop.begin_epoch(0)
    x, y = loop.batches.splits["target"].x.float() / 255, loop.batches.splits["target"].y
    method.eval()
    layer = method.encoder.get_submodule(method.held[0])

    def loss(channel=None):
        def silence(layer, given, out):
            out = out.clone()
            out[:, channel] = 0
            return out

        hook = layer.register_forward_hook(silence) if channel is not None else None
        try:
            with torch.no_grad():
                return F.cross_entropy(method(x), y)
        finally:
            if hook:
                hook.remove()

    rises = torch.stack([loss(j) - loss() for j in range(len(method.weights["0"]))])
    torch.testing.assert_close(method.weights["0"].data, rises.softmax(0), atol=1e-5, rtol=1e-4)
    weighed = [w.clone() for w in method.weights.values()]
    loop.run_epoch(0, 0, lambda done: False)
    loop.begin_epoch(1)
    # once, at the start
    assert all(torch.equal(a, b) for a, b in zip(weighed, method.weights.values(), strict=True))


# ---- features


@pytest.mark.parametrize("kind", ["l1", "mutual_information"])
def test_features_that_tell_the_class_are_found(kind):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 120)
    features = draw.normal(size=(120, 20))
    features[:, [4, 11]] += 3 * np.stack([y == 1, y == 2], axis=1)
    found = chosen(kind, features, y, 2, 0)
    assert np.flatnonzero(found).tolist() == [4, 11]
    assert chosen(kind, features, y, 20, 0).all()
    assert (chosen(kind, features, y, 2, 0) == found).all()


@pytest.mark.parametrize("kind", ["l1", "mutual_information"])
def test_a_probe_sees_the_selected_features_alone(kind):
    method, _, loop = reached("method=linear_probe", f"method.select={kind}", "method.keep=0.1")
    go(loop, epochs=2)
    seen = (method.head.weight != 0).any(0)
    wanted = round(0.1 * method.head.in_features)
    assert seen.sum() == wanted
    assert method.findings([])["features"]["seen"] == seen.nonzero().squeeze(1).tolist()


def test_an_autoencoder_learns_without_labels_and_the_probe_leaves_it():
    _, task, method, device = build("method=autoencoder", "data.target_labels=5")
    phases = method.phases()
    assert [(p.name, list(p.reads.values())) for p in phases] == [
        ("reconstruct", ["target_train"]),
        ("probe", ["target_labelled"]),
    ]
    phases[0].hooks.begin()
    before = state(method.encoder)
    first = loop_of(method, 0, task, device, epochs=8, steps=20)
    early = go(first)["reconstruction"]
    for epoch in range(1, 8):
        first.begin_epoch(epoch)
        first.run_epoch(epoch, 0, lambda done: False)
    assert first.meter.means()["reconstruction"] < 0.8 * early
    assert not same(before, state(method.encoder))
    encoder = state(method.encoder)
    go(loop_of(method, 1, task, device))
    assert same(encoder, state(method.encoder))


# ---- two models in one


def test_wise_ft_stands_at_each_mixture_in_turn_and_ends_at_its_own():
    method, _, loop = reached(
        "method=wise_ft", "method.points=3", "method.mix=0.25", "backbone.batch_norm=true"
    )
    tuned, start = state(method.encoder), state(method.pretrained["encoder"])
    for epoch, a in enumerate((0.0, 0.5, 1.0, 0.25)):
        loop.begin_epoch(epoch)
        loop.run_epoch(epoch, 0, lambda done: False)
        for name, value in state(method.encoder).items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - a) * start[name] + a * tuned[name], msg=name)
        if a in (0.0, 1.0):
            assert same(
                state(method.encoder),
                {
                    k: v if v.is_floating_point() else tuned[k]
                    for k, v in (start, tuned)[int(a)].items()
                },
            )
    torch.testing.assert_close(
        method.head.weight,
        0.75 * method.pretrained["head"].weight + 0.25 * method.tuned_to["head"].weight,
    )


def test_a_run_of_wise_ft_records_the_curve(tl_run, tmp_path):
    ended = tl_run(
        *TINY,
        "method=wise_ft",
        "data.target_labels=5",
        "method.points=3",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    curve = json.loads((tmp_path / "run" / "result.json").read_text())["findings"]["curve"]
    assert [point["mix"] for point in curve] == [0.0, 0.5, 1.0]
    cut = tl_run(
        *TINY,
        "method=wise_ft",
        "data.target_labels=5",
        "train.limit.epochs=1",
        f"hydra.run.dir={tmp_path / 'cut'}",
    )
    assert cut.code == 0, cut.text
    # nothing is trained, so nothing is cut
    assert json.loads((tmp_path / "cut" / "result.json").read_text())["phases"][-1]["epochs"] == 12
    assert all({"source_val", "target_test"} <= point.keys() for point in curve)


def test_wise_ft_keeps_a_head_of_new_classes():
    method, _, loop = reached("method=wise_ft", "data=split_digits", "method.points=2")
    head = state(method.head)
    go(loop, epochs=3)
    assert same(head, state(method.head))


def test_an_ensemble_is_the_mean_of_probabilities():
    method, _, loop = reached("method=ensemble", "method.mix=0.3")
    go(loop)
    x = loop.batches[0].target.x
    method.eval()
    old = method.source_head(method.source_encoder(x)).softmax(1)
    expected = 0.7 * old + 0.3 * method(x).softmax(1)
    torch.testing.assert_close(loop.phase.outputs.predict(x).softmax(1), expected)
    assert not same(state(method.source_encoder), state(method.encoder))


def test_an_ensemble_of_different_classes_is_refused(tl_run):
    ended = tl_run(
        *[w for w in TINY if not w.startswith("data.")], "method=ensemble", "data=split_digits"
    )
    assert ended.code == 2
    assert "the same classes in source and target" in ended.err


@pytest.mark.parametrize(
    ("words", "widths"),
    [
        (("method=delta",), [20, 50]),  # LeNet's convolutions, not its 500 features
        (("method=delta", "backbone=mlp"), [256, 128]),  # nothing convolutional: all
        (("method=delta", "method.freeze=1"), [50]),
    ],
    ids=lambda v: " ".join(map(str, v)),
)
def test_delta_holds_maps_of_convolutions(words, widths):
    _, _, method, _ = build("data.target_labels=5", *words)
    assert [len(w) for w in method.weights.values()] == widths
