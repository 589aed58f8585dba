"""Linear probes, LP-FT and LoRA: what each may touch, and that features are computed once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from support.methods import build, go, loop_of, same, state
from tl_runner.losses.distillation import softened_cross_entropy
from tl_runner.training.evaluator import Evaluator, outputs_of


def begun(*words, number=-1):
    _, task, method, device = build("data.target_labels=5", "method.new_head=true", *words)
    go(loop_of(method, 0, task, device))
    loop = loop_of(method, number, task, device)
    method.start()
    return method, loop


def test_a_probe_trains_the_head_on_features_that_are_computed_once(monkeypatch):
    method, loop = begun("method=linear_probe", "backbone.dropout=0.5")
    before, passes = state(method.encoder), []
    method.encoder.register_forward_hook(lambda *_: passes.append(1))
    go(loop, epochs=3)
    split = loop.batches.splits["target"]
    assert len(passes) == -(-len(split) // 500)
    assert same(before, state(method.encoder))
    loop._learn(loop.updates[0])
    batch = loop.batches[0]
    batch.precomputed = loop.precomputed
    features = outputs_of(method, method.features, split, loop.device)
    expected = F.cross_entropy(
        method.head(features[batch.target.index]), batch.target.y, label_smoothing=0.1
    )
    torch.testing.assert_close(loop.updates[0].update.step(batch, 0.0)["cross_entropy"], expected)
    assert {id(p) for p in loop.updates[0].parameters} == {id(p) for p in method.head.parameters()}


def test_a_probe_is_scored_on_features_that_are_computed_once():
    _, task, method, device = build("method=linear_probe", "data.target_labels=5")
    (probe,) = [phase for phase in method.phases() if phase.name == "probe"]
    bare = replace(probe, outputs=replace(probe.outputs, on_fixed=None))
    passes = []
    method.encoder.register_forward_hook(lambda *_: passes.append(1))
    found = []
    for phase in (probe, bare):
        evaluator = Evaluator(method, task.splits, device, 0, oracle=False)
        found.append([])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _ in range(3):  # epochs: the head moves, the encoder does not
                torch.nn.init.normal_(method.head.weight)
                passes.clear()
                found[-1].append((evaluator.after_epoch(phase), len(passes)))
    once, always = found
    assert [scores for scores, _ in once] == [scores for scores, _ in always]
    assert once[0][0] != once[1][0]
    target = {"target_train", "target_val", "target_test"}
    assert target & once[0][0].keys()
    assert once[0][1] == always[0][1]
    assert once[1][1] == once[2][1] < always[2][1]


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (("backbone=small_cnn",), 0.01),  # 128 features
        (("backbone=lenet",), 0.01 * (128 / 500) ** 1.5),
        (("backbone=lenet", "method.probe.optimizer.lr=0.002"), 0.002),
    ],
)
@pytest.mark.parametrize("name", ["linear_probe", "lp_ft", "autoencoder"])
def test_a_probes_rate_follows_the_number_of_features(name, words, rate):
    _, _, method, _ = build(f"method={name}", "data.target_labels=5", *words)
    (probe,) = [phase for phase in method.phases() if phase.name == "probe"]
    assert probe.updates[0].optimizer["lr"] == pytest.approx(rate)


def test_lp_ft_fine_tunes_from_the_probes_head():
    _, task, method, device = build(
        "method=lp_ft", "data.target_labels=5", "method.new_head=true", "method.freeze=1"
    )
    phases = method.phases()
    assert [p.name for p in phases] == ["pretrain", "probe", "finetune"]
    # nothing starts the head anew between probe and finetune
    assert [p.hooks.begin is not None for p in phases] == [False, True, False]
    go(loop_of(method, 0, task, device))
    method.start()
    encoder, head = state(method.encoder), state(method.head)
    go(loop_of(method, 1, task, device))
    assert same(encoder, state(method.encoder))
    assert not same(head, state(method.head))
    go(loop_of(method, 2, task, device))
    assert not same(encoder, state(method.encoder))


def test_lora_trains_adapters_and_head_alone():
    method, loop = begun("method=lora", "backbone.dropout=0.5")
    before = state(method.encoder)
    trained = sum(p.numel() for p in loop.updates[0].parameters)
    assert trained < 0.2 * sum(p.numel() for p in method.base)
    go(loop)
    after = state(method.encoder)
    changed = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert changed
    assert all(k.endswith((".0.a", ".0.b")) for k in changed)


def test_pretraining_under_adapters_is_source_onlys_up_to_rounding():
    more = "train.limit.samples=200"
    _, task, method, device = build("method=lora", "data.target_labels=5", more)
    _, _, floor, _ = build("method=source_only", more)
    go(loop_of(method, 0, task, device))
    go(loop_of(floor, 0, task, device))
    x = task.splits["target_test"].x[:50].float() / 255
    torch.testing.assert_close(
        method.eval().features(x), floor.eval().features(x), rtol=0.05, atol=5e-3
    )
    assert all(not adapter.b.any() for adapter in method.adapters)


def test_softened_cross_entropy_by_hand():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for z, r in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(v / 2) for v in row] for row in (r, z))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True)) / 4
    assert softened_cross_entropy(student, teacher, 2.0).item() == pytest.approx(total, abs=1e-12)
    p = (teacher / 2).softmax(1)
    assert softened_cross_entropy(teacher, teacher, 2.0).item() == pytest.approx(
        -(p * p.log()).sum(1).mean().item(), abs=1e-12
    )
    assert torch.autograd.gradcheck(
        lambda z: softened_cross_entropy(z, teacher, 2.0), student.requires_grad_()
    )


def test_lwf_keeps_the_original_networks_answers_to_the_images_it_sees():
    _, task, method, device = build(
        "method=lwf", "data.target_labels=5", "backbone.batch_norm=false"
    )
    go(loop_of(method, 0, task, device))
    phases = method.phases()
    assert [p.name for p in phases] == ["pretrain", "warm_up", "finetune"]
    phases[1].hooks.begin()
    encoder, old, head = state(method.encoder), state(method.source_head), state(method.head)
    assert same(encoder, state(method.origin))
    assert same(old, state(method.origin_head))
    go(loop_of(method, 1, task, device))
    assert same(encoder, state(method.encoder))  # warm-up trains the new head alone
    assert same(old, state(method.source_head))
    assert not same(head, state(method.head))

    loop = loop_of(method, 2, task, device)
    loop.begin_epoch(0)
    batch = loop.batches[0]
    loop._learn(loop.updates[0])
    method.eval()
    first = method.joint(batch, 0.0)["old_answers"].item()
    p = (method.origin_head(method.origin(batch.target.x)) / 2).softmax(1)  # of the same view
    assert first == pytest.approx(-(p * p.log()).sum(1).mean().item(), rel=1e-5)
    loop.updates[0](batch, 0.0)
    method.eval()
    assert method.joint(batch, 0.0)["old_answers"].item() > first
    go(loop)
    assert same(encoder, state(method.origin))  # the original, not the last step's
    assert not same(old, state(method.source_head))  # the old head stays trainable
    assert not same(encoder, state(method.encoder))
