"""Features of frozen networks: folded, kept, and the same whatever stands beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from support.pictures import made_up
from tl_runner.backbones import Backbone
from tl_runner.backbones._folding import folded
from tl_runner.backbones._frozen import FrozenNetwork, OnFrozen, put_under, trained_part
from tl_runner.build.backbone import maker
from tl_runner.data import rows
from tl_runner.data.augment import Views
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.training import device as devices
from tl_runner.training import frozen_features
from tl_runner.training.batches import Batches
from tl_runner.training.distributed import Ranks
from tl_runner.training.frozen_features import digests, on_features

CPU = devices.Device(torch.device("cpu"), "fp32", False, False, False)
DRAW = torch.Generator().manual_seed(0)


def with_statistics(network):
    """A network whose batch norms have seen something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=DRAW)
            module.running_var.uniform_(0.5, 2, generator=DRAW)
            module.weight.data.uniform_(0.5, 2, generator=DRAW)
            module.bias.data.normal_(generator=DRAW)
    return network.eval()


class Standardising(nn.Conv2d):
    """A convolution that standardises its weights, as BiT's do: folding would undo a scale."""

    def forward(self, x):
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std(
            (1, 2, 3), keepdim=True
        )
        return nn.functional.conv2d(x, weight, self.bias, padding=1)


class ReadTwice(nn.Module):
    """The convolution's output goes round the batch norm as well."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.convolution(x)
        return self.norm(x) + x


def test_batch_norms_are_folded_where_that_is_exact():
    network = with_statistics(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.BatchNorm2d(8),
        )
    )
    x = torch.rand(4, 3, 9, 9, generator=DRAW)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fast = folded(network, x[:2])
    assert [isinstance(m, nn.BatchNorm2d) for m in fast] == [False] * 6 + [True]
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(Standardising(3, 4, 3, padding=1), nn.BatchNorm2d(4)),
        ReadTwice(),
        nn.Sequential(nn.Flatten(), nn.Linear(243, 4)),
    ],
    ids=["standardised weights", "read twice", "no batch norm"],
)
def test_a_network_that_cannot_be_folded_stays_as_it_is(network):
    network = with_statistics(network)
    assert folded(network, torch.rand(2, 3, 9, 9, generator=DRAW)) is network


class Halves(Backbone):
    """Means of a picture's halves."""

    def __init__(self):
        super().__init__()
        self.out_features, self.calls = 2, 0
        self.factor = nn.Parameter(torch.ones(1))
        self.options = {"name": "halves"}

    def forward(self, x):
        self.calls += len(x)
        return self.factor * torch.stack([half.mean((1, 2, 3)) for half in x.chunk(2, 3)], 1)


def task_of(n=12):
    x = torch.randint(256, (n, 3, 4, 4), dtype=torch.uint8, generator=DRAW)
    y = torch.arange(n) % 2
    splits = {
        "source_train": Split(x[:6], y[:6], torch.arange(6)),
        "target_train": Split(x[6:], None, torch.arange(6)),
        "target_test": Split(x[6:], y[6:], torch.arange(6)),
    }
    return Task("halves", ("a", "b"), splits, "made up")


def test_features_are_standardised_by_the_source_and_computed_once(tmp_path):
    config, task, network = {"cache": {"dir": str(tmp_path)}, "backbone": {}}, task_of(), Halves()
    frozen = FrozenNetwork(network)
    found, said = on_features(task, frozen, CPU, config)
    assert "2 features of 12 samples, computed once" in said
    x = task.splits["source_train"].x.float() / 255
    own = torch.stack([x[..., :2].mean((1, 2, 3)), x[..., 2:].mean((1, 2, 3))], 1)
    expected = (own - own.mean(0)) / own.std(0, correction=0)
    z = found.splits["source_train"].x
    torch.testing.assert_close(z.flatten(1), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.splits["target_train"].x, found.splits["target_test"].x)
    assert found.inputs == (3, 4, 4)
    assert found.shape == (2, 1, 1)
    torch.testing.assert_close(
        frozen(task.splits["target_test"].x.float() / 255), found.splits["target_test"].x
    )
    network.calls = 0
    again, said = on_features(task, FrozenNetwork(network), CPU, config)
    assert "(12 of them before)" in said
    assert network.calls == 0
    assert all(torch.equal(again.splits[k].x, found.splits[k].x) for k in found.splits)


def test_other_weights_and_damaged_files_are_computed_anew(tmp_path):
    config, task = {"cache": {"dir": str(tmp_path)}, "backbone": {}}, task_of()
    first, _ = on_features(task, FrozenNetwork(Halves()), CPU, config)
    (file,) = (tmp_path / "features").rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    again, said = on_features(task, FrozenNetwork(Halves()), CPU, config)
    assert "before" not in said
    assert torch.equal(again.splits["target_test"].x, first.splits["target_test"].x)
    other = Halves()
    other.factor.data *= 2
    _, said = on_features(task, FrozenNetwork(other), CPU, config)
    assert "before" not in said
    with_more = replace(task.splits["target_test"], x=task.splits["target_test"].x.flip(3))
    more = replace(task, splits={**task.splits, "target_test": with_more})
    _, said = on_features(more, FrozenNetwork(Halves()), CPU, config)
    assert "of 18 samples" in said
    assert "(12 of them before)" in said


def test_many_samples_are_computed_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LARGE", 1)
    task = task_of(30)
    whole, _ = on_features(
        task,
        FrozenNetwork(Halves()),
        CPU,
        {"cache": {"dir": str(tmp_path / "whole")}, "backbone": {}},
    )
    monkeypatch.setattr(frozen_features, "AT_ONCE", 4 * 3 * 4 * 4)
    split = task.splits["source_train"]
    many = replace(task, splits={**task.splits, "source_train": split.take(torch.arange(6))})
    assert isinstance(many.splits["source_train"].x, rows.Rows)
    config = {"cache": {"dir": str(tmp_path / "blocks")}, "backbone": {}}
    found, said = on_features(many, FrozenNetwork(Halves()), CPU, config)
    assert "30 samples" in said
    assert all(torch.equal(found.splits[k].x, whole.splits[k].x) for k in whole.splits)
    assert len([*(tmp_path / "blocks").rglob("*.safetensors")]) > 3


def test_digests_tell_contents_and_shapes_apart():
    x = torch.zeros(2, 1, 2, 8, dtype=torch.uint8)
    assert digests(x)[0] == digests(x)[1] != digests(x.view(2, 1, 4, 4))[0]
    assert digests(x)[0] != digests(x.float())[0]
    short, long = (torch.full((1, n, 1, 1), -1, dtype=torch.int32) for n in (3, 9))
    short[:, :2], long[:, :2] = 7, 7
    assert digests(short) == digests(long)


def test_what_is_trained_stands_on_what_is_frozen():
    section = {"name": "small_cnn", "frozen": True, "bottleneck": 5, "bn": "concat"}
    rest = maker(section, (2, 1, 1))()
    assert isinstance(rest, OnFrozen)
    assert rest.out_features == 5
    assert trained_part({**section, "bottleneck": None}) == {"name": "raw", "bn": "concat"}
    x = torch.rand(3, 3, 4, 4, generator=DRAW)
    frozen = FrozenNetwork(Halves())
    frozen.standardise(torch.rand(9, 2, generator=DRAW))
    on_vectors = rest(frozen(x))
    put_under(nn.Sequential(rest), frozen)
    assert torch.equal(rest(x), on_vectors)
    assert not any("frozen" in name for name in maker(section, (2, 1, 1))().state_dict())


def test_views_are_of_the_picture_alone_and_kept(tmp_path):
    task, network = task_of(), Halves()
    config = {"cache": {"dir": str(tmp_path)}, "backbone": {"views": 3}}
    frozen, augment = FrozenNetwork(network), Views(translate=0.4, brightness=0.5)
    found, said = on_features(task, frozen, CPU, config, augment)
    assert "12 samples and 3 views of those to train on, computed once" in said
    train = found.splits["source_train"]
    assert train.views.shape == (6, 3, 2, 1, 1)
    assert found.splits["target_test"].views is None
    assert len(train.views.flatten(2).unique(dim=1)[0]) == 3
    # of each picture the view that its own seed draws, whatever stands beside it
    key = frozen_features._of_view(digests(task.splits["source_train"].x)[4], augment, 1)
    x = task.splits["source_train"].x[4:5].float() / 255
    own = augment.seeded(x, [int.from_bytes(key[:7], "big")])
    torch.testing.assert_close(train.views[4, 1], frozen(own)[0], atol=1e-5, rtol=1e-5)
    network.calls = 0
    fewer = {name: split.take(torch.tensor([4, 1])) for name, split in task.splits.items()}
    again, said = on_features(
        replace(task, splits=fewer), FrozenNetwork(network), CPU, config, augment
    )
    assert network.calls == 0
    deviation = frozen.deviation / again.splits["source_train"].views.new_tensor(
        again.scale["deviation"]
    )
    mean = (frozen.mean - torch.tensor(again.scale["mean"])) / torch.tensor(
        again.scale["deviation"]
    )
    expected = train.views[[4, 1]] * deviation[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(again.splits["source_train"].views, expected)
    plain, _ = on_features(task, FrozenNetwork(network), CPU, {**config, "backbone": {}}, augment)
    assert all(split.views is None for split in plain.splits.values())
    assert all(torch.equal(plain.splits[k].x, found.splits[k].x) for k in plain.splits)


def test_batches_take_a_view_of_each_picture_in_training_alone():
    views = torch.arange(40.0).view(10, 4, 1, 1, 1)
    split = Split(torch.full((10, 1, 1, 1), -1.0), torch.arange(10), torch.arange(10), views=views)
    batches = Batches({"target": split}, 5, 8, CPU, None, (0, "view"))
    batches.begin_epoch(0)
    torch.manual_seed(0)
    seen = [batches[step].target for step in range(8)]
    x, index = torch.cat([s.x.flatten() for s in seen]), torch.cat([s.index for s in seen])
    assert torch.equal(x.long() // 4, index)
    assert len((x % 4).unique()) == 4
    halves = [
        Batches({"target": split}, 5, 4, CPU, None, (0, "view"), Ranks(rank, 2)) for rank in (0, 1)
    ]
    whole = Batches({"target": split}, 10, 4, CPU, None, (0, "view"))
    drawn = []
    for some in (whole, *halves):
        some.begin_epoch(0)
        torch.manual_seed(1)
        drawn.append(some[0].target.x)
    assert torch.equal(drawn[0], torch.cat(drawn[1:]))


def test_runs_train_on_kept_views_or_say_that_they_do_not(tl_run, tmp_path):
    root = made_up(tmp_path / "pets", n=20)
    words = (
        *("debug=smoke", "device=cpu", "figures=false", "data=folder", "data.size=16"),
        *(f"data.target_dir={root}", "data.target_labels=all", "backbone=torchvision"),
        *("backbone.frozen=true", "backbone.name=mobilenet_v3_small", "backbone.views=2"),
        f"cache.dir={tmp_path / 'cache'}",
    )
    said = []
    for name, more in (
        ("fit", ("method=target_only",)),
        ("probe", ("method=linear_probe", "method.pretrain.epochs=0")),
        ("chosen", ("method=linear_probe", "method.pretrain.epochs=0", "method.select=l1")),
    ):
        ended = tl_run(*words, *more, f"hydra.run.dir={tmp_path / name}")
        assert ended.code == 0, ended.text
        said.append(ended.text)
    assert "and 2 views of those to train on, computed once" in said[0]
    assert " before)" in said[1]
    source = made_up(tmp_path / "drawn", n=20)
    ended = tl_run(*words, "method=no_transfer", f"data.source_dir={source}")
    assert ended.code == 2
    assert "backbone.views: this method trains on no views" in ended.text
