"""What each method promises, where published code goes wrong."""

from __future__ import annotations

import copy

import pytest
import torch

from support.methods import build, go, loop_of, same, state
from support.runs import TINY
from tl_runner.methods.adaptation.adda import collapse


@pytest.fixture(params=["logits", "features"])
def adapted(request):
    """ADDA after its pretraining and one epoch of adaptation, with batch norm and dropout, and its
    states before."""
    _, task, method, device = build(
        "method=adda", f"method.discriminator_input={request.param}", "backbone.dropout=0.5"
    )
    go(loop_of(method, 0, task, device))
    loop = loop_of(method, 1, task, device)
    loop.phase.hooks.begin()
    before = {name: state(network) for name, network in method.named_children()}
    means = go(loop)
    return method, before, means, loop


def test_adda_leaves_the_source_encoder_and_head_alone_to_the_bit(adapted):
    method, before, _, loop = adapted
    # buffers too: batch norm's running statistics
    assert same(before["encoder"], state(method.encoder))
    assert same(before["head"], state(method.head))
    assert not method.encoder.training
    assert not any(m.training for m in method.encoder.modules())  # dropout is off
    owned = {id(p) for r in loop.updates for p in r.parameters}
    assert not owned & {id(p) for p in [*method.encoder.parameters(), *method.head.parameters()]}


def test_adda_starts_from_a_copy_and_trains_it_and_the_discriminator(adapted):
    method, before, means, _ = adapted
    assert same(before["encoder"], before["target_encoder"])
    assert method.encoder is not method.target_encoder
    for p, q in zip(method.encoder.parameters(), method.target_encoder.parameters(), strict=True):
        assert p.data_ptr() != q.data_ptr()
    assert not same(before["target_encoder"], state(method.target_encoder))
    assert not same(before["discriminator"], state(method.discriminator))
    assert 0 <= means["discriminator_accuracy"] <= 1
    assert set(means) == {"discriminator", "encoder", "discriminator_accuracy"}


def test_adda_has_separate_optimisers_with_the_settings_of_the_config():
    config, task, method, device = build("method=adda", "method.adapt.optimizer.lr=1e-5")
    loop = loop_of(method, 1, task, device)
    discriminator, encoder = loop.updates
    assert encoder.optimizer.param_groups[0]["lr"] == 1e-5
    assert (
        discriminator.optimizer.param_groups[0]["lr"]
        == config["method"]["adapt"]["discriminator_optimizer"]["lr"]
    )
    assert encoder.optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def test_adda_discriminator_width_follows_its_input():
    assert (
        build("method=adda", "method.discriminator_input=logits")[2].discriminator[0].in_features
        == 10
    )
    assert (
        build("method=adda", "method.discriminator_input=features")[2].discriminator[0].in_features
        == 500
    )


def test_adda_updates_do_not_leak_gradients_into_each_other():
    _, task, method, device = build("method=adda")
    loop = loop_of(method, 1, task, device)
    loop.begin_epoch(0)
    before = [p.clone() for p in method.target_encoder.parameters()]
    discriminator, encoder = loop.updates
    loop._learn(discriminator)
    discriminator(loop.batches[0], 0.0)
    assert all(
        torch.equal(p, q) for p, q in zip(before, method.target_encoder.parameters(), strict=True)
    )
    assert all(p.grad is None for p in method.target_encoder.parameters())
    changed = state(method.discriminator)
    grads = [p.grad.clone() for p in method.discriminator.parameters()]
    loop._learn(encoder)
    encoder(loop.batches[0], 0.0)
    assert same(changed, state(method.discriminator))
    for p, g in zip(method.discriminator.parameters(), grads, strict=True):
        assert torch.equal(p.grad, g)


def test_adda_pretraining_is_source_only_to_the_bit(tl_run, tmp_path):
    for method in ("source_only", "adda"):
        assert (
            tl_run(
                *TINY,
                f"method={method}",
                "backbone.dropout=0.5",
                f"hydra.run.dir={tmp_path / method}",
            ).code
            == 0
        )
    one, other = (
        torch.load(tmp_path / m / "checkpoints" / "last.pt", weights_only=True)["method"]
        for m in ("source_only", "adda")
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_shut_gate_rests_the_encoder_and_ends_the_phase(tl_run, tmp_path):
    words = (
        "method=adda",
        "method.adapt.gate=1",
        "method.adapt.gate_window=2",
        "train.epochs=4",
        "train.steps_per_epoch=2",
    )
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    assert "rested" in ended.err
    from support.runs import results

    (result,) = results(tmp_path)
    # the first window was open, then a whole epoch at rest
    assert result["phases"][1]["epochs"] == 2
    assert any("rested" in w for w in result["warnings"])


def test_a_discriminator_that_has_won_is_reported():
    assert "discriminator_optimizer.lr" in collapse(
        {"discriminator": 0.01, "discriminator_accuracy": 0.999}
    )
    assert collapse({"discriminator": 0.6, "discriminator_accuracy": 0.7}) is None


def test_first_weights_depend_on_the_seed_and_the_network_alone():
    source_only, adda = build("method=source_only")[2], build("method=adda", "method.hidden=7")[2]
    assert same(state(source_only.encoder), state(adda.encoder))
    assert same(state(source_only.head), state(adda.head))
    assert same(state(adda.encoder), state(adda.target_encoder))
    assert not same(state(adda.head), state(build("method=adda", "seed=1")[2].head))


def test_target_only_learns_from_target_labels_and_is_stamped(tl_run, tmp_path):
    from support.runs import results

    assert tl_run(*TINY, "method=target_only", f"hydra.run.dir={tmp_path / 'run'}").code == 0
    (result,) = results(tmp_path)
    assert result["uses_target_labels"] is True
    _, task, method, device = build("method=target_only", "data.target_labels=3")
    assert len(task.splits["target_labelled"]) == 30
    assert task.splits["target_labelled"].y.bincount().tolist() == [3] * 10
    before = copy.deepcopy(method.state_dict())
    go(loop_of(method, 0, task, device))
    assert not torch.equal(before["head.weight"], method.head.weight)


@pytest.mark.parametrize("method", ["source_only", "adda"])
def test_methods_without_a_right_to_target_labels_have_none(method):
    _, task, _, _ = build(f"method={method}")
    assert task.splits["target_train"].y is None
    assert "target_labelled" not in task.splits
