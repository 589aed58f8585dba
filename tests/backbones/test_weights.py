"""First weights from files, all of them made here; torchvision's models without their last
layer."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
import yaml

from support.methods import build, same, state
from support.runs import TINY, results
from tl_runner import plugins
from tl_runner.backbones import Backbone
from tl_runner.backbones._weights import fill, read
from tl_runner.backbones.torchvision import Torchvision, published
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import CheckpointError, ConfigError

NAMES = ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "vgg11", "squeezenet1_0", "vit_b_16")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_torchvision_model_gives_what_its_last_layer_sees(name):
    backbone = Torchvision((3, 64, 64), name=name).eval()
    x = torch.rand(2, 3, 64, 64)
    assert backbone(x).shape == (2, backbone.out_features)
    blocks = backbone.blocks()
    found = [p for units in blocks.values() for unit in units for p in unit.parameters()]
    assert {id(p) for p in found} == {id(p) for p in backbone.parameters()}
    assert len(blocks) > 5
    grey = Torchvision((1, 64, 64), name=name).eval()
    grey.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(grey(x[:, :1]), backbone(x[:, :1].expand(-1, 3, -1, -1)))


def test_a_model_that_is_not_there_or_takes_no_such_images():
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        Torchvision((3, 64, 64), name="resnet_18")
    with pytest.raises(ConfigError, match=r"data.size"):
        Torchvision((3, 64, 64), name="vit_b_16")


def test_published_weights_that_cannot_be_had_say_where_to_put_them(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ConfigError) as said:
        published("resnet18", "IMAGENET1K_V1")
    for part in ("resnet18-f37072fd.pth", "put it at", "checkpoints"):
        assert part in str(said.value)
    with pytest.raises(ConfigError, match="Did you mean 'IMAGENET1K_V1'"):
        published("resnet18", "IMAGENET1K_V2")


WRAPPED = {
    "bare": lambda weights: weights,
    "others": lambda weights: {"state_dict": {f"module.{k}": v for k, v in weights.items()}},
    "ours": lambda weights: {"method": {f"encoder.{k}": v for k, v in weights.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_file_of_weights_is_taken_by_name_and_shape(tmp_path, wrap):
    one, other = (build("method=source_only", f"seed={seed}")[2].encoder for seed in (0, 1))
    torch.save(wrap(one.state_dict()), tmp_path / "w.pt")
    said = fill(other, read(tmp_path / "w.pt"), "w.pt")
    assert same(state(one), state(other))
    n = len(one.state_dict())
    assert said == f"backbone: {n} of {n} tensors from w.pt"


def bare(name):
    """A shipped backbone with the keys of its YAML, for small colour pictures."""
    content = yaml.safe_load((CONF_DIR / "backbone" / f"{name}.yaml").read_text())
    keys = {k: v for k, v in content.items() if k not in ("name", "bn", "weights", "allowed")}
    return plugins.class_in("backbones", content["name"], Backbone)((3, 32, 32), **keys)


@pytest.mark.parametrize("name", ["lenet", "dtn", "small_cnn", "resnet20", "conv4", "mlp"])
def test_a_backbones_own_state_dict_fills_all_of_it(tmp_path, name):
    one, other = bare(name), bare(name)
    n = len(one.state_dict())
    for wrap in WRAPPED.values():
        torch.save(wrap(one.state_dict()), tmp_path / "w.pt")
        assert (
            fill(other, read(tmp_path / "w.pt"), "w.pt")
            == f"backbone: {n} of {n} tensors from w.pt"
        )
        assert same(state(one), state(other))


def test_a_layer_of_another_name_is_not_taken_for_one_that_ends_alike():
    backbone = bare("resnet20")
    own = state(backbone)
    lost = {k: v for k, v in own.items() if not k.startswith("stage2")}
    said = fill(backbone, lost | {"0.first.weight": torch.zeros(32, 32, 3, 3)}, "w.pt")
    assert f"{len(lost)} of {len(own)} tensors" in said
    assert same(state(backbone), own)


def test_little_that_matches_is_an_error(tmp_path):
    one = build("method=source_only")[2].encoder
    with pytest.raises(CheckpointError, match="Is it of another backbone"):
        fill(one, {"conv.weight": torch.zeros(3)}, "w.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read(tmp_path / "none.pt")


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_run_starts_from_another_ones_weights(tl_run, tmp_path):
    assert tl_run(*TINY, "method=source_only", f"hydra.run.dir={tmp_path / 'first'}").code == 0
    ended = tl_run(
        *TINY,
        "method=linear_probe",
        "data.target_labels=5",
        "method.pretrain.epochs=0",
        "method.probe.epochs=1",
        f"backbone.weights={tmp_path / 'first'}",
        f"hydra.run.dir={tmp_path / 'second'}",
    )
    assert ended.code == 0, ended.text
    assert "backbone: 21 of 21 tensors from" in ended.text
    weights = [
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["method"]
        for name in ("first", "second")
    ]
    assert all(
        torch.equal(v, weights[1][k]) for k, v in weights[0].items() if k.startswith("encoder.")
    )
    assert len(results(tmp_path)) == 2
    ended = tl_run(*TINY, "method=source_only", "backbone.weights=nowhere.pt")
    assert ended.code == 2
    assert "nowhere.pt" in ended.err
