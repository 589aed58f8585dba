"""What the adaptation methods promise, where published code goes wrong; batch norm of two domains;
labelled target images."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F

from support.covers import pairs
from support.host_copies import NoHostCopies
from support.methods import build, go, loop_of, same, state
from support.runs import ROOT, TINY, results
from support.shipped import method_class
from tl_runner.backbones._base import DomainBatchNorm
from tl_runner.backbones._batch_norm import norms_of, use_domain
from tl_runner.cli import help
from tl_runner.config.compose import check
from tl_runner.config.paths import CONF_DIR
from tl_runner.losses.adversarial import adaptation_factor
from tl_runner.losses.coral import coral
from tl_runner.losses.mmd import median_bandwidths, mmd
from tl_runner.losses.self_training import centroid_pseudo_labels, minimum_class_confusion
from tl_runner.methods.adaptation import SharedEncoder, TargetEncoder
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.fewshot._base import MetaLearner
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.multitask.multitask import MultiTask
from tl_runner.training.evaluator import outputs_of

OTHERS = ModelTransfer | MultiTask | Distillation | MetaLearner | OnFeatures
METHODS = [
    name
    for name, _ in help.choices("method", CONF_DIR)
    if not issubclass(method_class(name), OTHERS)
]
MODES = ("concat", "separate", "domain_specific", "frozen")


def adapting(*words: str):
    """(method, loop) of the phase adapt, begun, its first epoch drawn."""
    _, task, method, device = build(*words)
    if "pretrain" in [p.name for p in method.phases()]:
        go(loop_of(method, 0, task, device))
    loop = loop_of(method, -1, task, device)
    if loop.phase.hooks.begin:
        loop.phase.hooks.begin()
    loop.begin_epoch(0)
    return method, loop


def step_of(loop, name=None, progress=0.5, batch=None):
    """One update's losses, backward, no optimiser step: (losses, metrics)."""
    runner = next(r for r in loop.updates if name in (None, r.update.name))
    for network in runner.update.networks:
        network.train()
    for layer in loop.phase.eval_layers:
        layer.eval()
    loop._learn(runner)
    batch = batch or loop.batches[0]
    batch.precomputed = loop.of_epoch
    found = runner.update.step(batch, progress)
    losses, metrics = found if isinstance(found, tuple) else (found, {})
    loop.method.zero_grad()
    sum(losses.values()).backward()
    return losses, metrics


def gradients(network) -> torch.Tensor:
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in network.parameters()
        ]
    )


# ---- every method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_a_right_to_target_labels_has_none(name):
    _, task, method, _ = build(f"method={name}")
    if isinstance(method, SharedEncoder | TargetEncoder):
        assert task.splits["target_train"].y is None
        assert "target_labelled" not in task.splits
        assert all("target_labelled" not in phase.reads.values() for phase in method.phases())


@pytest.mark.parametrize("name", [n for n in METHODS if n != "target_only"])
def test_labelled_target_images_join_every_methods_classification_loss(name):
    _, task, method, device = build(f"method={name}", "data.target_labels=3")
    assert task.splits["target_labelled"].y.bincount().tolist() == [3] * 10
    for number, phase in enumerate(method.phases()):
        loop = loop_of(method, number, task, device, epochs=1, steps=1)
        if phase.hooks.begin:
            phase.hooks.begin()
        means = go(loop)
        # adabn does not, in its second phase
        trains = any(update.optimizer for update in phase.updates)
        assert (phase.reads.get("labelled") == "target_labelled") is trains
        assert ("cross_entropy" in means) is trains


def test_a_run_that_saw_target_labels_says_so(tl_run, tmp_path):
    assert (
        tl_run(
            *TINY, "data.target_labels=3", "method=shot", f"hydra.run.dir={tmp_path / 'run'}"
        ).code
        == 0
    )
    (result,) = results(tmp_path)
    assert result["uses_target_labels"] is True
    assert result["sizes"]["target_labelled"] == 30


def test_the_loss_is_the_mean_over_source_and_labelled_images():
    _, task, method, device = build(
        "method=dan", "data.target_labels=3", "backbone.batch_norm=false", "method.weight=0"
    )
    batch = loop_of(method, 1, task, device)
    batch.begin_epoch(0)
    batch = batch.batches[0]
    logits, y = (
        method(torch.cat([batch.source.x, batch.labelled.x])),
        torch.cat([batch.source.y, batch.labelled.y]),
    )
    torch.testing.assert_close(
        method.step(batch, 0.5)["cross_entropy"], F.cross_entropy(logits, y, label_smoothing=0.1)
    )


@pytest.mark.parametrize("name", METHODS)
def test_losses_that_relate_samples_to_each_other_say_so(name):
    """A batch loss that is a mean over samples is the mean of its halves; one that is not must be
    refused over ranks."""
    words = ["backbone.batch_norm=false", "train.batch_size=16", "train.label_smoothing=0"]
    if name == "drcn":
        words.append("method.noise=0")
    if name == "adabn":
        pytest.skip("it has no loss")
    method, loop = adapting(f"method={name}", *words)
    method.double()
    for runner in loop.updates:
        whole = loop.batches[0]

        def part(rows, whole=whole):
            piece = type(whole)(precomputed=loop.of_epoch)
            for domain in loop.phase.reads:
                samples = getattr(whole, domain)
                y = None if samples.y is None else samples.y[rows]
                setattr(
                    piece, domain, type(samples)(samples.x[rows].double(), y, samples.index[rows])
                )
            return piece

        def loss(batch, runner=runner):
            found = runner.update.step(batch, 0.5)
            return sum((found[0] if isinstance(found, tuple) else found).values())

        halves = (loss(part(slice(0, 8))) + loss(part(slice(8, 16)))) / 2
        assert runner.update.couples is not torch.allclose(
            loss(part(slice(None))), halves, rtol=1e-9, atol=0
        ), runner.update.name


# ---- batch norm


@pytest.mark.parametrize("bn", MODES)
def test_batch_norm_sees_the_domains_as_it_is_told(bn):
    method, loop = adapting("method=deepcoral", f"backbone.bn={bn}")
    before, batch = state(method.encoder), loop.batches[0]
    step_of(loop, batch=batch)
    norms = norms_of(method.encoder)
    first = norms[0]
    moved = not torch.equal(
        state(method.encoder)[
            "layers.1.running_mean" if bn != "domain_specific" else "layers.1.source.running_mean"
        ],
        before[
            "layers.1.running_mean" if bn != "domain_specific" else "layers.1.source.running_mean"
        ],
    )
    assert moved is (bn != "frozen")
    assert (len(norms) == 6) is (bn == "domain_specific")
    if bn == "concat":
        assert first.num_batches_tracked == before["layers.1.num_batches_tracked"] + 1
    if bn == "separate":
        assert first.num_batches_tracked == before["layers.1.num_batches_tracked"] + 2
    method.eval()
    method.encoder.train(bn != "frozen")
    together = method.encoder.layers[0](torch.cat([batch.source.x, batch.target.x]))
    apart = [method.encoder.layers[0](part.x) for part in (batch.source, batch.target)]
    if bn in ("concat", "separate"):
        fed = [together] if bn == "concat" else apart
        momentum, mean = 0.1, before["layers.1.running_mean"]
        for x in fed:
            mean = (1 - momentum) * mean + momentum * x.mean((0, 2, 3))
        torch.testing.assert_close(first.running_mean, mean)


def test_the_modes_of_batch_norm_differ():
    features = {}
    for bn in MODES:
        method, loop = adapting("method=deepcoral", f"backbone.bn={bn}")
        batch = loop.batches[0]
        method.encoder.train()
        for layer in loop.phase.eval_layers:
            layer.eval()
        features[bn] = method.encode(batch)["target"].detach()
    assert not torch.allclose(features["concat"], features["separate"])
    assert not torch.allclose(features["concat"], features["frozen"])
    # which starts as a copy of the source's
    torch.testing.assert_close(features["separate"], features["domain_specific"])


def test_domain_specific_norms_start_equal_and_go_their_own_ways():
    method, loop = adapting("method=deepcoral", "backbone.bn=domain_specific")
    norms = [m for m in method.encoder.modules() if isinstance(m, DomainBatchNorm)]
    assert len(norms) == 3
    assert all(same(state(n.source), state(n.target)) for n in norms)
    source, target = loop.phase.outputs.source_predict, loop.phase.outputs.predict
    go(loop)
    assert not any(same(state(n.source), state(n.target)) for n in norms)
    method.eval()
    x = loop.batches[0].target.x
    use_domain(method.encoder, "target")
    torch.testing.assert_close(target(x), method.head(method.encoder(x)))
    use_domain(method.encoder, "source")
    torch.testing.assert_close(source(x), method.head(method.encoder(x)))
    assert not torch.allclose(source(x), target(x))


def test_each_domain_moves_the_norms_that_are_its_own():
    """Source images the source's, target images the target's, with labels or without."""
    method, loop = adapting(
        "method=deepcoral", "backbone.bn=domain_specific", "data.target_labels=3"
    )
    norm, batch = method.encoder.layers[1], loop.batches[0]
    before = norm.source.running_mean.clone(), norm.target.running_mean.clone()
    convolved = [
        method.encoder.layers[0](x)
        for x in (batch.source.x, torch.cat([batch.target.x, batch.labelled.x]))
    ]
    step_of(loop, batch=batch)
    for now, old, x in zip(
        (norm.source.running_mean, norm.target.running_mean), before, convolved, strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * x.mean((0, 2, 3)))


def test_pretraining_on_both_domains_normalises_each_by_itself():
    for bn in ("concat", "separate"):
        _, task, method, device = build(
            "method=source_only", "data.target_labels=3", f"backbone.bn={bn}"
        )
        loop = loop_of(method, 0, task, device)
        loop.begin_epoch(0)
        step_of(loop)
        assert method.encoder.layers[1].num_batches_tracked == (1 if bn == "concat" else 2)


@pytest.mark.parametrize(
    ("name", "bn"), pairs([n for n in METHODS if n not in ("source_only", "target_only")], MODES)
)
def test_a_frozen_source_encoder_is_not_touched_in_any_mode(name, bn):
    if (name, bn) == ("adabn", "frozen"):
        pytest.skip("refused, tested below")
    method, loop = adapting(f"method={name}", f"backbone.bn={bn}")
    before = {n: state(network) for n, network in method.named_children()}
    go(loop)
    if isinstance(method, TargetEncoder):
        assert same(before["encoder"], state(method.encoder))  # batch norm's statistics too
        assert same(before["head"], state(method.head))
        statistics = {k for k in before["target_encoder"] if "running" in k}
        moved = any(
            not torch.equal(before["target_encoder"][k], state(method.target_encoder)[k])
            for k in statistics
        )
        assert moved is (bn != "frozen")
    else:
        assert isinstance(method, SharedEncoder)
        statistics = {k for k in before["encoder"] if "running" in k}
        moved = any(
            not torch.equal(before["encoder"][k], state(method.encoder)[k]) for k in statistics
        )
        assert moved is (bn != "frozen")


# ---- one by one


def test_dann_scales_the_encoders_gradient_and_not_the_discriminators():
    found = {}
    for weight in (0, 1, 2):
        method, loop = adapting(
            "method=dann", f"method.weight={weight}", "backbone.batch_norm=false"
        )
        _, metrics = step_of(loop, progress=0.5)
        found[weight] = (
            gradients(method.encoder),
            gradients(method.discriminator),
            metrics["lambda"],
        )
        assert metrics["lambda"] == pytest.approx(weight * 0.98661, abs=1e-5)
        if weight == 0:
            method.zero_grad()
            F.cross_entropy(
                method(loop.batches[0].source.x), loop.batches[0].source.y, label_smoothing=0.1
            ).backward()
            # nothing of the discriminator
            torch.testing.assert_close(gradients(method.encoder), found[0][0])
    assert found[0][1].abs().sum() > 0
    torch.testing.assert_close(found[0][1], found[1][1])
    torch.testing.assert_close(
        found[2][0] - found[0][0], 2 * (found[1][0] - found[0][0]), rtol=1e-3, atol=1e-6
    )


def test_danns_ramp_is_over_the_whole_phase_and_on_record(tl_run, tmp_path):
    assert tl_run(*TINY, "method=dann", f"hydra.run.dir={tmp_path / 'run'}").code == 0
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    found = [row["lambda"] for row in rows if "lambda" in row]
    expected = [
        sum(adaptation_factor((4 * epoch + step) / 8) for step in range(4)) / 4
        for epoch in range(2)
    ]
    assert found == pytest.approx(expected, rel=1e-5)
    rates = [row["lr"] for row in rows if row["phase"] == "adapt" and "lr" in row]
    assert rates == pytest.approx([0.001 * (1 - 3 / 8), 0.001 * (1 - 7 / 8)])


@pytest.mark.parametrize("entropy", ["false", "true"])
def test_cdan_trains_the_head_by_labels_alone_through_its_map(entropy):
    """The predictions in the map are detached: with the weights of the samples off, the head hears
    of labels only."""
    method, loop = adapting("method=cdan", f"method.entropy={entropy}", "backbone.batch_norm=false")
    step_of(loop, progress=0.9)
    whole = gradients(method.head)
    method.zero_grad()
    batch = loop.batches[0]
    F.cross_entropy(method(batch.source.x), batch.source.y, label_smoothing=0.1).backward()
    assert torch.allclose(whole, gradients(method.head), atol=1e-7) is (entropy == "false")


def test_cdans_random_matrices_are_kept_with_weights_and_never_trained():
    method, loop = adapting("method=cdan")
    before = state(method.map)
    assert set(before) == {"feature_matrix", "class_matrix"}
    assert "map.feature_matrix" in method.state_dict()
    assert method.discriminator[0].in_features == 1024  # 500 x 10 is above the paper's 4,096
    go(loop)
    assert same(before, state(method.map))
    exact = build("method=cdan", "method.random_map=0")[2]
    assert exact.map is None
    assert exact.discriminator[0].in_features == 5000


def test_deep_corals_gradient_reaches_the_encoder_from_both_losses():
    method, loop = adapting("method=deepcoral", "method.weight=3", "backbone.batch_norm=false")
    step_of(loop)
    whole, batch = gradients(method.encoder), loop.batches[0]
    method.zero_grad()
    F.cross_entropy(method(batch.source.x), batch.source.y, label_smoothing=0.1).backward()
    by_labels = gradients(method.encoder)
    method.zero_grad()
    (3 * coral(method(batch.source.x), method(batch.target.x))).backward()
    by_coral = gradients(method.encoder)
    assert by_labels.abs().sum() > 0
    assert by_coral.abs().sum() > 0
    torch.testing.assert_close(whole, by_labels + by_coral, rtol=1e-4, atol=1e-7)


def test_dan_adds_up_its_layers():
    one, other, both = (
        step_of(
            adapting("method=dan", f"method.layers=[{layers}]", "backbone.batch_norm=false")[1]
        )[0]["mmd"]
        for layers in ("features", "logits", "features,logits")
    )
    torch.testing.assert_close(both, one + other)


def test_jan_compares_features_and_predictions_jointly():
    for estimator in ("unbiased", "linear"):
        words = (
            "method.weight=2",
            "method.kernels=3",
            "method.kernel_ratio=1.5",
            f"method.estimator={estimator}",
        )
        method, loop = adapting("method=jan", "backbone.batch_norm=false", *words)
        losses, _ = step_of(loop, progress=0.2)
        layers = [
            [f, method.head(f).softmax(1)]
            for f in (method.encoder(x.x) for x in (loop.batches[0].source, loop.batches[0].target))
        ]
        bandwidths = [median_bandwidths(s, t, 3, 1.5) for s, t in zip(*layers, strict=True)]
        torch.testing.assert_close(
            losses["joint_mmd"], 2 * adaptation_factor(0.2) * mmd(*layers, bandwidths, estimator)
        )


def test_mcc_takes_its_temperature_and_weight():
    method, loop = adapting(
        "method=mcc", "backbone.batch_norm=false", "method.temperature=4", "method.weight=3"
    )
    with torch.no_grad():
        method.head.weight.mul_(30)  # predictions of an untrained head are all alike
    losses, _ = step_of(loop)
    logits = method(loop.batches[0].target.x)
    torch.testing.assert_close(losses["class_confusion"], 3 * minimum_class_confusion(logits, 4.0))
    assert not torch.allclose(losses["class_confusion"], 3 * minimum_class_confusion(logits, 2.5))


def test_cdan_e_weighs_each_domain_by_itself():
    """Normalised jointly, a domain of sure predictions would outweigh the other."""
    method, loop = adapting("method=cdan_e", "backbone.batch_norm=false", "method.random_map=0")
    batch = loop.batches[0]
    losses, _ = step_of(loop, batch=batch)
    found = []
    for samples in (batch.source, batch.target):
        features = method.encoder(samples.x)
        p = method.head(features).softmax(1)
        weights = 1 + torch.exp((p * p.log()).sum(1))
        judged = method.discriminator(torch.einsum("bk,bd->bkd", p, features).flatten(1)).squeeze(1)
        is_source = torch.full_like(judged, float(samples is batch.source))
        per_sample = F.binary_cross_entropy_with_logits(judged, is_source, reduction="none")
        found.append((weights / weights.mean() * per_sample).mean())
    torch.testing.assert_close(losses["domain"], (found[0] + found[1]) / 2)


def test_mcds_steps_touch_only_what_they_may():
    method, loop = adapting("method=mcd", "backbone.bn=separate")
    networks = ("encoder", "head_a", "head_b", "head")
    # or they would never disagree
    assert not torch.equal(method.head_a[0].weight, method.head_b[0].weight)
    assert [r.update.repeats for r in loop.updates] == [1, 1, 4]
    may = {"A": {"encoder", "head_a", "head_b"}, "B": {"head_a", "head_b"}, "C": {"encoder"}}
    for runner in loop.updates:
        before = {n: [p.clone() for p in getattr(method, n).parameters()] for n in networks}
        loop._learn(runner)
        batch = loop.batches[0]
        batch.precomputed = {}
        runner(batch, 0.0)
        moved = {
            n
            for n in networks
            if any(
                not torch.equal(p, q)
                for p, q in zip(before[n], getattr(method, n).parameters(), strict=True)
            )
        }
        assert moved == may[runner.update.name]
    method.eval()
    x = loop.batches[0].target.x
    f = method.features(x, "target")
    torch.testing.assert_close(
        loop.phase.outputs.predict(x), (method.head_a(f) + method.head_b(f)) / 2
    )


def test_mcds_heads_seek_what_its_encoder_avoids():
    _, loop = adapting("method=mcd", "backbone.batch_norm=false")
    losses, _ = step_of(loop, "B")
    again, _ = step_of(loop, "C")
    torch.testing.assert_close(losses["disagreement"], -again["discrepancy"])


def test_shot_reads_no_source_and_leaves_the_head_alone_to_the_bit():
    method, loop = adapting("method=shot")
    assert loop.phase.reads == {"target": "target_train"}
    assert not hasattr(loop.batches[0], "source")
    before = {n: state(network) for n, network in method.named_children()}
    losses = go(loop)
    assert {"mean_entropy", "diversity", "pseudo_labels"} <= set(losses)
    assert same(before["head"], state(method.head))
    assert same(before["encoder"], state(method.encoder))
    assert not same(before["target_encoder"], state(method.target_encoder))
    owned = {id(p) for r in loop.updates for p in r.parameters}
    assert not owned & {id(p) for p in method.head.parameters()}


def test_shots_pseudo_labels_are_those_of_the_epochs_start_by_sample():
    method, loop = adapting("method=shot")
    split = loop.batches.splits["target"]
    features = outputs_of(method, method.target_encoder, split, loop.device)
    expected = centroid_pseudo_labels(features, method.head(features).softmax(1))
    assert torch.equal(loop.of_epoch["pseudo_labels"], expected)
    batch = loop.batches[0]
    losses, _ = step_of(loop, batch=batch)
    method.target_encoder.train()
    logits = method.head(method.target_encoder(batch.target.x))
    torch.testing.assert_close(
        losses["pseudo_labels"],
        0.1 * F.cross_entropy(logits, expected[batch.target.index]),
        rtol=1e-4,
        atol=1e-6,
    )


def test_what_is_kept_for_an_epoch_is_in_the_checkpoint():
    """Stopped inside an epoch, the pseudo-labels must be those of its start, not of the weights as
    they are by then."""
    method, loop = adapting("method=shot")
    loop.run_epoch(0, 0, lambda done: done == 2)
    saved, weights = copy.deepcopy(loop.state_dict()), state(method)
    loop.run_epoch(0, 2, lambda done: False)
    expected = state(method)
    _, task, other, device = build("method=shot")
    again = loop_of(other, 1, task, device)
    other.load_state_dict(weights)
    again.load_state_dict(saved)
    again.batches.begin_epoch(0)
    again.run_epoch(0, 2, lambda done: False)
    assert same(expected, state(other))


def test_adabn_trains_nothing_and_takes_the_targets_statistics():
    method, loop = adapting("method=adabn", "train.batch_size=50", "train.limit.samples=200")
    before, split = state(method.target_encoder), loop.batches.splits["target"]
    assert loop.phase.sampling.augment is False
    go(loop)
    after = state(method.target_encoder)
    assert all(
        torch.equal(v, after[k])
        for k, v in before.items()
        if "running" not in k and "tracked" not in k
    )
    x = method.target_encoder.layers[0](split.x.float() / 255)
    assert loop.steps == 4
    torch.testing.assert_close(
        after["layers.1.running_mean"], x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        after["layers.1.running_var"],
        x.view(4, 50, *x.shape[1:]).var((1, 3, 4)).mean(0),
        rtol=2e-2,
        atol=1e-4,
    )


def test_adabns_statistics_are_those_of_the_network_that_predicts():
    """Without dropout, whose noise would widen every later norm."""
    found = []
    for dropout in (0.0, 0.5):
        method, loop = adapting(
            "method=adabn",
            f"backbone.dropout={dropout}",
            "train.batch_size=50",
            "train.limit.samples=200",
        )
        method.target_encoder.load_state_dict(
            {**state(method.target_encoder), **dict(found[0][0] if found else {})}
        )
        start = {
            k: v
            for k, v in state(method.target_encoder).items()
            if "running" not in k and "tracked" not in k
        }
        go(loop)
        found.append(
            (
                start,
                next(
                    v
                    for k, v in reversed(state(method.target_encoder).items())
                    if "running_var" in k
                ),
            )
        )
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize("name", METHODS)
def test_no_step_of_a_method_waits_for_the_device(name):
    """But a gate's, once a window."""
    _, loop = adapting(
        f"method={name}", *(["method.adapt.gate=0"] if name.startswith("adda") else [])
    )
    loop.run_epoch(0, 0, lambda done: done == 1)  # optimisers read their options when they start
    with NoHostCopies(only_reads=True):
        loop._step(1, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method=adabn", "backbone.bn=frozen"), "backbone.bn"),
        (("method=adabn", "backbone.batch_norm=false"), "batch_norm=true"),
        (("method=dann", "backbone.batch_norm=false", "backbone.bn=concat"), "batch_norm"),
        (("method=shot", "method.pretrain.epochs=0"), "pretrain.epochs"),
        (("method=source_only", "method.pretrain.epochs=0"), "pretrain.epochs"),
        (("method=dan", "method.layers=[feature]"), "features, logits"),
        (("method=dan", "method.layers=[logits,logits]"), "each once"),
        (("-m", "method=adabn,source_only", "backbone.bn=frozen"), "backbone.bn"),
        (("method=dann", "method.pretrain.epochs=0", "backbone.bn=frozen"), "pretraining"),
        (
            ("method=jan", "train.batch_size=1", "backbone.batch_norm=false"),
            "batch_size=1 is too few",
        ),
        (
            ("method=mcc", "train.batch_size=1", "backbone.batch_norm=false"),
            "batch_size=1 is too few",
        ),
        (
            ("method=shot", "train.batch_size=1", "backbone.batch_norm=false"),
            "batch_size=1 is too few",
        ),
        (("data.source=[fonts,mnist]",), "digits_multi"),
        (("method=dan", "method.estimator=linea"), "linear"),
    ],
)
def test_what_cannot_be(tl_run, words, said):
    ended = tl_run(*TINY, *words)
    assert ended.code == 2
    assert said in ended.err


def test_drcn_reconstructs_the_clean_target_from_a_noisy_one():
    method, loop = adapting("method=drcn", "backbone.batch_norm=false", "method.noise=0.5")
    batch, seen = loop.batches[0], []
    clean = batch.target.x.clone()
    method.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    losses, _ = step_of(loop, "autoencoder", batch=batch)
    (noisy,) = seen
    assert torch.equal(batch.target.x, clean)
    lit = clean > 0
    assert ((noisy == 0) | (noisy == clean)).all()
    assert (noisy[lit] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(
        losses["reconstruction"], (method.decoder(method.encoder(noisy)) - clean).square().mean()
    )
    assert gradients(method.head).abs().sum() == 0
    assert gradients(method.encoder).abs().sum() > 0
    assert method.decoder(method.encoder(clean)).shape == clean.shape
    step_of(loop, "classifier")
    assert gradients(method.decoder).abs().sum() == 0


def test_without_a_pretraining_phase_both_domains_train_from_the_start(tl_run, tmp_path):
    assert (
        tl_run(
            *TINY, "method=dann", "method.pretrain.epochs=0", f"hydra.run.dir={tmp_path / 'run'}"
        ).code
        == 0
    )
    (result,) = results(tmp_path)
    assert [p["name"] for p in result["phases"]] == ["adapt"]


def test_shipped_settings_are_the_papers():
    def of(name):
        return check([f"method={name}"], sweep=False)[0].config

    assert "logits" in of("dan")["method"]["layers"]
    assert len(of("dan")["method"]["layers"]) > 1
    assert of("deepcoral")["method"]["layers"] == ["logits"]
    assert of("mcc")["method"]["temperature"] == 2.5
    assert of("mcd")["method"]["agree_steps"] == 4
    assert of("shot")["method"]["pretrain"]["label_smoothing"] == 0.1
    assert (of("cdan")["method"]["entropy"], of("cdan_e")["method"]["entropy"]) == (False, True)
    for name in ("adda", "adda_paper"):
        adapt = of(name)["method"]["adapt"]
        assert adapt["optimizer"]["lr"] <= adapt["discriminator_optimizer"]["lr"]


def test_the_readmes_method_is_two_files_and_touches_no_existing_one(tl_run, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "own_code.md").read_text()
    code, yaml = re.search(
        r"```python\n# my_package/mean_match.py\n(.*?)```\n\n```yaml\n(.*?)```", text, re.DOTALL
    ).groups()
    for path, content in (
        ("my_package/mean_match.py", code),
        ("my_configs/method/mean_match.yaml", yaml),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("--config-dir", str(tmp_path / "my_configs"), *TINY, "method=mean_match")
    ended = tl_run(*words, "method.weight=0.1", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["choices"]["method"] == "mean_match"
    assert [p["name"] for p in result["phases"]] == ["pretrain", "adapt"]
    assert "mean_gap" in (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "my_configs" / "method" / "mean_match.yaml").write_text(
        yaml.replace("weight:", "wight:")
    )
    ended = tl_run(*words)
    assert ended.code == 2
    assert "method.weight: my_package.mean_match.MeanMatch needs it" in ended.err
    (tmp_path / "my_configs" / "method" / "mean_match.yaml").write_text(
        yaml.replace("mean_match\nweight", "mean_mach\nweight")
    )
    ended = tl_run(*words)
    assert ended.code == 2
    assert "name: my_package.mean_mach" in ended.err
    assert "PYTHONPATH" in ended.err
