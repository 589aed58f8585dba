"""What ``train.*`` offers every phase: gradients in parts and clipped, averaged weights, balance,
mixed images, early stopping."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.phase_loops import CPU, SGD, Toy, go, split
from support.runs import TINY, results
from tl_runner.data.task import Split
from tl_runner.methods.base import cross_entropy
from tl_runner.methods.batch import Batch, Samples
from tl_runner.methods.phases import Length, Outputs, Phase, Update
from tl_runner.report.runs import collect
from tl_runner.training.batches import Batches, Labelled, class_weights, of_every_class_as_often
from tl_runner.training.early_stopping import EarlyStopping, unvalidated, validated_on
from tl_runner.training.ema import Average
from tl_runner.training.phase_loop import PhaseLoop


def loop_of(toy, optimizer=SGD, epochs=1, steps=3, size=4, **phase):
    updates = [Update("a", [toy.a], optimizer, toy.step_of("a"))]
    made = Phase(
        "toy",
        {"source": "source_train"},
        updates,
        Length(epochs, size, **{k: phase.pop(k) for k in ("accumulate", "patience") if k in phase}),
        Outputs(toy.a),
        **phase,
    )
    return PhaseLoop(
        toy,
        made,
        Batches({"source": split(12)}, size, steps, CPU, None, (0, "toy")),
        CPU,
        0,
        epochs,
    )


# ---- the gradient


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    whole, parts = Toy(), Toy()
    first, second = loop_of(whole), loop_of(parts, accumulate=4)
    go(first)
    go(second)
    torch.testing.assert_close(whole.a.weight, parts.a.weight)
    assert len(parts.seen) == 4 * len(whole.seen)
    assert first.meter.means() == pytest.approx(second.meter.means())


def test_equal_parts_of_a_batch_keep_what_goes_with_each_image():
    x = torch.arange(6.0).view(6, 1, 1, 1)
    batch = Batch(source=Samples(x, torch.arange(6), torch.arange(6) + 10), precomputed={"all": x})
    parts = [batch.part(i, 3) for i in range(3)]
    assert torch.equal(torch.cat([p.source.x for p in parts]), x)
    assert [p.source.y.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[1].source.index.tolist() == [12, 13]
    assert parts[1].precomputed is batch.precomputed


def test_gradients_are_clipped_by_their_norm_together():
    free, clipped = Toy(), Toy()
    before = [p.detach().clone() for p in free.a.parameters()]
    go(loop_of(free, steps=1))
    go(loop_of(clipped, {**SGD, "clip_norm": 0.01}, steps=1))
    moved = [
        torch.cat([(p - q).flatten() for p, q in zip(toy.a.parameters(), before, strict=True)])
        for toy in (free, clipped)
    ]
    assert moved[0].norm() > 0.1 * 0.01
    torch.testing.assert_close(moved[1], moved[0] * (0.1 * 0.01 / moved[0].norm()))


def test_no_units_weights_are_longer_than_the_most():
    free, bound = Toy(), Toy()
    go(loop_of(free, {**SGD, "lr": 3.0}, steps=1))
    go(loop_of(bound, {**SGD, "lr": 3.0, "max_norm": 0.5}, steps=1))
    lengths = free.a.weight.norm(dim=1)
    assert (lengths > 0.5).any()
    for row, cut, length in zip(free.a.weight, bound.a.weight, lengths, strict=True):
        torch.testing.assert_close(cut, row * min(1.0, 0.5 / length.item()), rtol=1e-5, atol=1e-6)
    assert torch.equal(free.a.bias, bound.a.bias)  # biases are no incoming weights


def test_a_coupled_loss_is_not_cut_into_parts(tl_run):
    ended = tl_run(*TINY, "method=dan", "method.pretrain.epochs=0", "train.accumulate=2")
    assert ended.code == 2
    assert "method.adapt.accumulate=2: the loss of method=dan couples" in ended.err
    ended = tl_run(*TINY, "method=source_only", "train.accumulate=3")
    assert ended.code == 2
    assert "method.pretrain.accumulate=3 does not divide batch_size=32" in ended.err


# ---- averaged weights


def test_the_average_is_the_recursion():
    layer = nn.Linear(2, 1)
    start = layer.weight.detach().clone()
    average, expected = Average([layer], 0.5), start.clone()
    for step in range(1, 9):
        with torch.no_grad():
            layer.weight.add_(step)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    live = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight, live)
    average.adopt()
    torch.testing.assert_close(layer.weight.detach(), expected)


def test_what_does_not_move_keeps_its_bits_in_the_average():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = deepcopy(network.state_dict())
    average = Average([network], 0.9)
    for _ in range(50):
        average.update()
    average.adopt()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_average_begins_with_what_the_phase_begins_with():
    toy = Toy()
    loop = loop_of(toy, ema=0.9)
    with torch.no_grad():
        toy.a.weight.fill_(7.0)  # as a phase's begin does, after the loop was made
    loop.begin_epoch(0)
    with loop.as_predicted():
        assert (toy.a.weight == 7.0).all()


@pytest.mark.parametrize(
    "words",
    [
        ("method=adabn", "train.ema=0.9"),
        ("method=source_only", "train.mixup=1", "train.cutmix=1"),
        ("method=multitask", "train.patience=2", "train.balance=weights"),
        ("method=multitask", "method.weighting=dwa", "train.epochs=1"),
        ("method=linear_probe", "method.select=l1", "data.target_labels=5", "train.ema=0.9"),
    ],
    ids=" ".join,
)
def test_options_and_methods_that_meet(tl_run, tmp_path, words):
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    if "method.select=l1" in words:
        assert len(result["findings"]["features"]["seen"]) == 250


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("method=source_only", "train.accumulate=0"),
            "train.accumulate=0 should be a whole number of at least 1",
        ),
        (
            ("method=source_only", "train.accumulate=32", "backbone.batch_norm=true"),
            "parts of one image",
        ),
        (
            ("method=shot", "train.patience=1"),
            "it reads no labels, so no accuracy says when to stop. Set method.adapt.patience=null",
        ),
        (("method=multitask", "method.together.mixup=0.4"), "the labels of most tasks not"),
        (
            ("method=linear_probe", "method.select=mutual_information", "data.target_labels=1"),
            "needs two labelled images of a class",
        ),
        (
            ("method=delta", "method.freeze=all", "data.target_labels=5"),
            "method.freeze leaves none",
        ),
        (
            (
                "method=finetune",
                "data=split_digits",
                "data.source_classes=[0,1,2,3,4,5,6,7,8,9]",
                "data.target_classes=null",
            ),
            "leaves no class",
        ),
    ],
)
def test_options_that_cannot_be_are_said(tl_run, tmp_path, words, said):
    tiny = [w for w in TINY if not w.startswith("data.")]
    ended = tl_run(*tiny, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2, ended.text
    assert said in ended.err


def test_the_loop_trains_its_own_weights_and_leaves_the_average():
    plain, averaged = Toy(), Toy()
    go(loop_of(plain))
    loop = loop_of(averaged, ema=0.9)
    go(loop)
    assert torch.equal(plain.a.weight, averaged.a.weight)
    with loop.as_predicted():
        inside = averaged.a.weight.detach().clone()
    assert not torch.equal(inside, plain.a.weight)
    loop.end()
    assert torch.equal(averaged.a.weight, inside)


# ---- classes


def test_every_class_is_drawn_as_often():
    y = torch.tensor([0] * 90 + [1] * 9 + [3] * 1)
    drawn = of_every_class_as_often(y, 301, torch.Generator().manual_seed(0))
    assert sorted(y[drawn].bincount()[[0, 1, 3]].tolist()) == [100, 100, 101]
    assert len(drawn[y[drawn] == 0].unique()) == 90  # all of a class before any twice
    assert not torch.equal(y[drawn], y[drawn].sort().values)


def test_sampling_leaves_splits_without_labels_alone():
    data = Split(split(20).x, torch.tensor([0] * 18 + [1] * 2), torch.arange(20))
    batches = Batches(
        {"source": data, "target": data.without_labels()},
        10,
        2,
        CPU,
        None,
        (0, "p"),
        labelled=Labelled("sampling", classes={"source": 2}),
    )
    batches.begin_epoch(0)
    assert torch.cat([batches[i].source.y for i in range(2)]).bincount().tolist() == [10, 10]
    assert torch.cat([batches[i].target.index for i in range(2)]).unique().numel() == 20


def test_class_weights_by_hand():
    y = torch.tensor([0, 0, 0, 1])
    weights = class_weights(y, 3)
    assert weights.tolist() == pytest.approx([4 / (2 * 3), 4 / 2, 1.0])
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sample = Samples(torch.zeros(4, 1), y, torch.arange(4), class_weight=weights.double())
    losses = -logits.log_softmax(1)[torch.arange(4), y]
    by_hand = (losses * weights.double()[y]).mean()
    torch.testing.assert_close(cross_entropy(logits, [sample], 0.0), by_hand)
    parts = [
        cross_entropy(
            logits[rows],
            [Samples(torch.zeros(2, 1), y[rows], y[rows], class_weight=weights.double())],
            0.0,
        )
        for rows in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(parts) / 2, by_hand)  # whatever parts the batch is cut into
    other = Samples(torch.zeros(2, 1), torch.tensor([1, 2]), torch.arange(2))
    more = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = cross_entropy(torch.cat([logits, more]), [sample, other], 0.0)
    torch.testing.assert_close(together, (4 * by_hand + 2 * F.cross_entropy(more, other.y)) / 6)


# ---- mixed images


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_are_mixed_in_pairs_with_their_labels(kind):
    data = Split(
        torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 8, 8).contiguous() * 30,
        torch.arange(8),
        torch.arange(8),
    )
    batches = Batches(
        {"source": data},
        8,
        1,
        CPU,
        None,
        (0, "p"),
        labelled=Labelled(**{kind: 1.0}, classes={"source": 8}),
    )
    seen = set()
    for epoch in range(5):
        batches.begin_epoch(epoch)
        samples = batches[0].source
        assert samples.y.shape == (8, 8)
        torch.testing.assert_close(samples.y.sum(1), torch.ones(8))
        # each image is a plain grey of its label
        mean = (samples.y * torch.arange(8.0)).sum(1) * 30 / 255
        torch.testing.assert_close(samples.x.mean((1, 2, 3)), mean, atol=1e-6, rtol=1e-5)
        values = {len(image.unique()) for image in samples.x}
        assert values == {1} if kind == "mixup" else values <= {1, 2}
        again = batches[0].source
        assert torch.equal(samples.x, again.x)
        seen.add(round(samples.y.max().item(), 5))
    assert len(seen) > 1


def test_one_kind_or_the_other_a_batch():
    data = Split(split(8, h=8).x, torch.arange(8), torch.arange(8))
    batches = Batches(
        {"source": data},
        8,
        1,
        CPU,
        None,
        (0, "p"),
        labelled=Labelled(mixup=1.0, cutmix=1.0, classes={"source": 8}),
    )
    kinds = set()
    for epoch in range(12):
        batches.begin_epoch(epoch)
        x, plain = (
            batches[0].source.x,
            {tuple(image.flatten().tolist()) for image in data.x.float() / 255},
        )
        pixels = {value for image in plain for value in image}
        kinds.add("cutmix" if {*x.flatten().tolist()} <= pixels else "mixup")
    assert kinds == {"mixup", "cutmix"}


# ---- early stopping


def test_it_waits_and_goes_back_to_the_best_epoch():
    layer = nn.Linear(1, 1, bias=False)
    stopping = EarlyStopping(2, "source_val", layer)
    for epoch, accuracy in enumerate((0.5, 0.7, 0.7, 0.6), start=1):
        layer.weight.data.fill_(epoch)
        assert not stopping.over
        stopping.see(epoch, accuracy)
    assert stopping.over
    assert stopping.go_back() == {"epoch": 2, "split": "source_val", "accuracy": 0.7}
    assert layer.weight.item() == 2


def test_what_it_is_validated_on():
    def phase(*reads):
        return Phase(
            "p",
            dict(zip("abc", reads, strict=False)),
            [],
            Length(1, 1, patience=1),
            Outputs(None),
        )

    both = {"source_val", "target_val"}
    assert validated_on(phase("source_train"), both) == ["source_val"]
    assert validated_on(phase("source_train", "target_labelled"), both)[0] == "target_val"
    assert validated_on(phase("target_labelled"), {"source_val"}) == []
    assert "in the phase p" in unvalidated(phase("target_labelled"), {"source_val"})[0]


def test_a_run_stops_early_reports_that_epoch_and_shares_it(tl_run, tmp_path):
    words = (
        *TINY,
        "method=dann",
        "train.pretrain.epochs=12",
        "method.pretrain.patience=1",
        "train.optimizer.lr=0.01",
        "cache.phases=true",
    )
    for name in ("one", "two"):
        assert (
            tl_run(
                *words, f"cache.dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / name}"
            ).code
            == 0
        )
    first, second = (
        next(p for p in r["phases"] if p["name"] == "pretrain") for r in results(tmp_path)
    )
    assert first["epochs"] < 12
    assert first["early_stopping"]["epoch"] == first["epochs"] - 1
    rows = [
        json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    ]
    validated = {
        r["epoch"]: r["accuracy"]
        for r in rows
        if r["phase"] == "pretrain" and r["split"] == "source_val" and "step" in r
    }
    assert (
        first["early_stopping"]["accuracy"]
        == max(validated.values())
        == validated[first["early_stopping"]["epoch"]]
    )
    assert first["metrics"]["source_val"]["accuracy"] == first["early_stopping"]["accuracy"]
    assert second["shared"]
    assert second["early_stopping"] == first["early_stopping"]


def test_a_last_phase_that_stopped_early_is_reported_at_that_epoch(tl_run, tmp_path):
    words = (
        "method=source_only",
        "train.epochs=10",
        "train.patience=1",
        "train.optimizer.lr=0.02",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert tl_run(*TINY, *words).code == 0
    (result,) = results(tmp_path)
    stopped = result["phases"][0]["early_stopping"]["epoch"]
    assert stopped < result["phases"][0]["epochs"]
    assert result["rules"]["last"]["epoch"] == stopped
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {row["epoch"] for row in rows if row.get("selected")} == {stopped}
    (run,) = collect([tmp_path / "run"])
    assert run.stopped_at == stopped


def test_nothing_to_validate_on_is_said_before_training(tl_run, tmp_path):
    ended = tl_run(
        *TINY, "method=target_only", "train.patience=3", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 2
    assert (
        "patience=3, in the phase supervise: this data has no labelled images to validate it on"
        in ended.err
    )
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "least"),
    [(("train.batch_size=1",), 2), (("train.batch_size=8", "train.accumulate=8"), 16)],
)
def test_one_sample_at_a_time_has_no_batch_statistics(tl_run, words, least):
    """Whether a backbone has batch norm is seen in its layers, not in a key."""
    few = [word for word in TINY if "batch_size" not in word]
    ended = tl_run(*few, "method=source_only", "backbone=resnet20", *words)
    assert ended.code == 2
    assert "trains batch norm on one sample at a time" in ended.err
    assert f"at least {least}" in ended.err
