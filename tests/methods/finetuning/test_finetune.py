"""Fine-tuning: what is frozen stays to the bit, every parameter has one rate, the regularisers draw
to the start and nothing else."""

from __future__ import annotations

import pytest
import torch

from support.covers import cases
from support.methods import build, go, loop_of, same, state
from support.pictures import made_up
from support.runs import TINY, results
from tl_runner.losses.regularisers import batch_spectral_shrinkage, l1_sp, l2_sp

FROM_SOURCE = ("method=finetune", "data.target_labels=5", "method.new_head=true")


def tuning(*words, phase=-1):
    """(method, loop) of a phase of fine-tuning, begun."""
    _, task, method, device = build(*FROM_SOURCE, *words)
    phases = method.phases()
    if phases[0].name == "pretrain":
        go(loop_of(method, 0, task, device))
    loop = loop_of(method, phase, task, device)
    first = next(p for p in loop.method.phases() if p.name.startswith("finetune"))
    first.hooks.begin()
    loop.begin_epoch(0)
    return method, loop


def test_the_backbones_blocks_hold_every_parameter_once():
    for backbone, expected in (
        ("lenet", ["0", "4", "10"]),
        ("dtn", None),
        ("small_cnn", None),
        ("resnet20", None),
    ):
        method = build(f"backbone={backbone}", *FROM_SOURCE)[2]
        blocks = method.encoder.blocks()
        found = [p for units in blocks.values() for unit in units for p in unit.parameters()]
        assert len(found) == len({id(p) for p in found})
        assert {id(p) for p in found} == {id(p) for p in method.encoder.parameters()}
        assert expected in (None, list(blocks))
    assert list(build("backbone.bn=domain_specific", *FROM_SOURCE)[2].encoder.blocks()) == [
        "0",
        "4",
        "10",
    ]


@pytest.mark.parametrize("freeze", [0, 1, "all", "[4]"])
@pytest.mark.parametrize("more", [(), ("method.layer_decay=0.5", "method.head_rate=10")])
def test_every_trained_parameter_is_in_one_group(freeze, more):
    method, loop = tuning(f"method.freeze={freeze}", *more)
    (runner,) = loop.updates
    grouped = [id(p) for group in runner.groups for p in group.parameters]
    frozen = {
        id(p)
        for name in method.tuning.frozen
        for unit in method.tuning.blocks[name]
        for p in unit.parameters()
    }
    every = {id(p) for network in (method.encoder, method.head) for p in network.parameters()}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == every - frozen
    assert method.head.out_features == 10
    if more:
        rates = [
            group["lr"] / runner.update.optimizer["lr"] for group in runner.optimizer.param_groups
        ]
        assert rates == pytest.approx(
            {"0": [10, 1, 0.5, 0.25], "1": [10, 1, 0.5], "all": [10], "[4]": [10, 1, 0.25]}[
                str(freeze)
            ]
        )


@pytest.mark.parametrize("freeze", ["1", "2", "all", "[4]"])
def test_frozen_blocks_keep_weights_and_statistics_to_the_bit(freeze):
    method, loop = tuning(
        f"method.freeze={freeze}",
        "backbone.dropout=0.5",
        "train.optimizer.weight_decay=0.1",
        "train.optimizer.name=adamw",
    )
    before = state(method.encoder)
    seen = []
    for name in method.tuning.frozen:
        for unit in method.tuning.blocks[name]:
            unit.register_forward_hook(lambda unit, given, out: seen.append(unit.training))
    go(loop, epochs=2)
    after = state(method.encoder)
    paths = {f"layers.{path}" for path in (k.removeprefix("layers.") for k in before)}
    units = {
        id(m)
        for name in method.tuning.frozen
        for unit in method.tuning.blocks[name]
        for m in unit.modules()
    }
    frozen = {
        f"{path}.{k}"
        for path, m in method.encoder.named_modules()
        if id(m) in units
        for k in m.state_dict()
    }
    assert frozen
    assert frozen <= paths
    for key, value in before.items():
        if key in frozen:
            assert torch.equal(value, after[key]), key
    assert any(
        not torch.equal(value, after[key]) for key, value in before.items() if key not in frozen
    ) is (freeze != "all")
    assert seen
    assert not any(seen)  # dropout too


def test_gradual_unfreezing_begins_with_the_head_and_ends_with_all():
    method = build(*FROM_SOURCE, "method.gradual=true", "train.epochs=5")[2]
    phases = method.phases()
    assert [p.name for p in phases] == ["pretrain", *(f"finetune_{n}" for n in range(4))]
    assert [p.length.epochs for p in phases] == [5, 1, 1, 1, 2]
    trained = [
        sum(p.numel() for g in phase.updates[0].groups for p in g.parameters)
        for phase in phases[1:]
    ]
    assert trained == sorted(trained)
    assert trained[0] == sum(p.numel() for p in method.head.parameters())
    assert trained[-1] == trained[0] + sum(p.numel() for p in method.encoder.parameters())
    assert [phase.hooks.begin is not None for phase in phases[1:]] == [True, False, False, False]


def test_l2_sp_by_hand_and_nothing_at_the_start():
    w, w0 = (
        [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])],
        [torch.tensor([0.0, 4.0]), torch.tensor([[3.5]])],
    )
    assert l2_sp(w, w0).item() == pytest.approx(0.5 * (1 + 4 + 0.25))
    assert l1_sp(w, w0).item() == pytest.approx(1 + 2 + 0.5)
    assert l2_sp(w, w).item() == l1_sp(w, w).item() == 0
    w = [v.clone().requires_grad_() for v in w]
    l2_sp(w, w0).backward()
    torch.testing.assert_close(w[0].grad, torch.tensor([1.0, -2.0]))
    with pytest.raises(ValueError, match="zip"):
        l2_sp(w, w0[:1])


@pytest.mark.parametrize("name", ["l2_sp", "l1_sp"])
def test_regularisers_pull_layers_to_their_start_and_the_head_to_zero(name):
    method, loop = tuning(
        f"method.regulariser={name}",
        "method.alpha=0.3",
        "method.beta=0.2",
        "backbone.batch_norm=false",
        "method.freeze=1",
    )
    loop._learn(loop.updates[0])
    batch = loop.batches[0]
    first = loop.updates[0].update.step(batch, 0.0)
    assert first[name] == 0
    head = sum(p.square().sum() for p in method.head.parameters())
    torch.testing.assert_close(first["l2"], 0.1 * head)
    go(loop)
    # no alias: the start stays where it was
    assert not same(state(method.encoder), state(method.origin))
    losses = loop.updates[0].update.step(batch, 0.0)
    moved = [
        (p - q)
        for p, q in zip(method.encoder.parameters(), method.origin.parameters(), strict=True)
    ]
    assert not moved[0].any()  # frozen
    expected = sum(m.square().sum() / 2 if name == "l2_sp" else m.abs().sum() for m in moved)
    torch.testing.assert_close(losses[name], 0.3 * expected)
    method.zero_grad()
    losses[name].backward()
    assert all(p.grad is None for p in method.head.parameters())


def test_bss_is_the_smallest_singular_value_squared():
    draw = torch.Generator().manual_seed(0)
    f = torch.randn(6, 4, generator=draw, dtype=torch.float64)
    values = torch.linalg.eigvalsh(f.T @ f).sort().values
    assert batch_spectral_shrinkage(f).item() == pytest.approx(values[0].item())
    assert batch_spectral_shrinkage(f, 2).item() == pytest.approx(values[:2].sum().item())
    assert torch.autograd.gradcheck(batch_spectral_shrinkage, f.requires_grad_())


def test_pretraining_is_source_onlys_to_the_bit():
    _, task, tuned, device = build("method=finetune", "data.target_labels=5")
    _, _, floor, _ = build("method=source_only")
    go(loop_of(tuned, 0, task, device))
    go(loop_of(floor, 0, task, device))
    assert same(state(tuned.encoder), state(floor.encoder))
    assert same(state(tuned.source_head), state(floor.head))
    tuned.phases()[1].hooks.begin()
    assert same(state(tuned.head), state(tuned.source_head))  # the same classes: the head is kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method.freeze=9",), "this backbone has 3 blocks: 0, 4, 10"),
        (("method.freeze=[4,44]",), "no block 44"),
        (("method.freeze=-1",), "a number of blocks"),
        (("method.regulariser=l2_sp", "train.optimizer.weight_decay=1e-3"), "set it to 0"),
        (("method.regulariser=l2sp",), "Did you mean 'l2_sp'"),
        (("data.target_labels=0",), "learns from target labels"),
    ],
)
def test_what_cannot_be(tl_run, words, said):
    ended = tl_run(*TINY, "method=finetune", *words)
    assert ended.code == 2
    assert said in ended.err


def test_other_classes_get_a_head_of_their_own(tl_run, tmp_path):
    made_up(tmp_path / "here", ("a", "b"), n=30)
    made_up(tmp_path / "there", ("c", "d", "e"), n=30)
    words = (
        *[w for w in TINY if not w.startswith("data.")],
        "data=folder",
        f"data.target_dir={tmp_path / 'here'}",
        f"data.source_dir={tmp_path / 'there'}",
        "data.size=32",
        "backbone=small_cnn",
        "method=finetune",
        "data.target_labels=5",
    )
    ended = tl_run(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert [p["name"] for p in result["phases"]] == ["pretrain", "finetune"]
    # of other classes: nothing to say of the target
    assert set(result["phases"][0]["metrics"]) == {"source_val", "source_test"}
    assert {"source_test", "target_val", "target_test"} <= set(result["metrics"])
    assert result["uses_target_labels"] is True
    ended = tl_run(*words, "method.new_head=false")
    assert ended.code == 2
    assert "cannot be kept" in ended.err


def test_without_a_source_it_starts_from_the_first_weights(tl_run, tmp_path):
    made_up(tmp_path / "here", ("a", "b"), n=30)
    words = (
        *[w for w in TINY if not w.startswith("data.")],
        "data=folder",
        f"data.target_dir={tmp_path / 'here'}",
        "data.size=32",
        "backbone=small_cnn",
        "method=finetune",
    )
    ended = tl_run(*words)
    assert ended.code == 2
    assert "data.source_dir" in ended.err
    ended = tl_run(*words, "method.pretrain.epochs=0", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert [p["name"] for p in result["phases"]] == ["finetune"]


@pytest.mark.parametrize("name", cases(["finetune", "lp_ft", "lwf", "joint"], ("finetune",)))
def test_frozen_statistics_are_those_of_the_pretraining(tl_run, tmp_path, name):
    """``backbone.bn=frozen``: training on the target leaves batch norm's statistics as they are."""
    words = (*TINY, "train.epochs=1", "seed=3")
    statistics = {}
    for bn, method in (("frozen", "source_only"), ("frozen", name), ("separate", name)):
        folder = tmp_path / f"{bn} {method}"
        kind, labels = ("separate", 0) if method == "source_only" else (bn, 5)
        more = (f"backbone.bn={kind}", f"data.target_labels={labels}", f"hydra.run.dir={folder}")
        ended = tl_run(*words, f"method={method}", *more)
        assert ended.code == 0, ended.text
        state = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["method"]
        statistics[bn, method] = {k: v for k, v in state.items() if "running_" in k}
    before = statistics["frozen", "source_only"]
    assert before
    assert all(torch.equal(v, statistics["frozen", name][k]) for k, v in before.items())
    assert not all(torch.equal(v, statistics["separate", name][k]) for k, v in before.items())
