"""Linear probes, LP-FT and LoRA: what each may touch, and that features are computed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_methods import build, go, loop_of, same, state

from tl_runner.backbones.low_rank import LowRank, adapt
from tl_runner.training.evaluation import outputs_of


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
    batch.kept = loop.kept
    features = outputs_of(method, method.features, split, loop.device)
    expected = F.cross_entropy(method.head(features[batch.target.index]), batch.target.y, label_smoothing=0.1)
    torch.testing.assert_close(loop.updates[0].update.step(batch, 0.0)["cross_entropy"], expected)
    assert {id(p) for p in loop.updates[0].parameters} == {id(p) for p in method.head.parameters()}


def test_lp_ft_fine_tunes_from_the_probes_head():
    _, task, method, device = build("method=lp_ft", "data.target_labels=5", "method.new_head=true", "method.freeze=1")
    phases = method.phases()
    assert [p.name for p in phases] == ["pretrain", "probe", "finetune"]
    assert [p.begin is not None for p in phases] == [False, True, False]  # nothing starts the head anew between probe and finetune
    go(loop_of(method, 0, task, device))
    method.start()
    encoder, head = state(method.encoder), state(method.head)
    go(loop_of(method, 1, task, device))
    assert same(encoder, state(method.encoder))
    assert not same(head, state(method.head))
    go(loop_of(method, 2, task, device))
    assert not same(encoder, state(method.encoder))


def test_an_adapter_is_a_low_rank_matrix_beside_the_weight():
    draw = torch.Generator().manual_seed(0)
    for layer, x in (
        (torch.nn.Linear(5, 7), torch.randn(3, 5, generator=draw)),
        (torch.nn.Conv2d(2, 6, 3), torch.randn(3, 2, 8, 8, generator=draw)),
    ):
        network = torch.nn.Sequential(layer)
        before, weight = network(x), layer.weight.detach().clone()
        (adapter,) = adapt(network, 2, 4.0)
        assert isinstance(adapter, LowRank)
        assert torch.equal(network(x), before)  # it begins as it was
        with torch.no_grad():
            adapter.b.normal_(generator=draw)
        change = (layer.weight - weight).flatten(1)
        torch.testing.assert_close(change, 2.0 * adapter.b @ adapter.a)
        assert torch.linalg.matrix_rank(change) == 2


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
    _, task, method, device = build("method=lora", "data.target_labels=5")
    _, _, floor, _ = build("method=source_only")
    go(loop_of(method, 0, task, device))
    go(loop_of(floor, 0, task, device))
    x = task.splits["target_test"].x[:50].float() / 255
    torch.testing.assert_close(method.eval().features(x), floor.eval().features(x), rtol=0.05, atol=5e-3)
    assert all(not adapter.b.any() for adapter in method.adapters)
