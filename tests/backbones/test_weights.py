"""First weights from files, all of them made here; torchvision's models without their last
layer."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from functools import cache

import pytest
import torch
import torchvision
import yaml
from safetensors.torch import save_file
from torch import Tensor

from support.methods import build, same, state
from support.runs import TINY, results
from tl_runner import plugins
from tl_runner.backbones import Backbone, _weights_file
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
    assert said.startswith(f"backbone: {n} of {n} tensors from w.pt")


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
        said = fill(other, read(tmp_path / "w.pt"), "w.pt")
        assert said.startswith(f"backbone: {n} of {n} tensors from w.pt")
        assert not other.unfilled
        assert same(state(one), state(other))


def test_a_layer_of_another_name_is_not_taken_for_one_that_ends_alike():
    backbone = bare("resnet20")
    own = state(backbone)
    lost = {k: v for k, v in own.items() if not k.startswith("stage2")}
    said = fill(backbone, lost | {"0.first.weight": torch.zeros(32, 32, 3, 3)}, "w.pt")
    assert f"{len(lost)} of {len(own)} tensors" in said
    assert same(state(backbone), own)


@cache
def of_torchvision(name="resnet18"):
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).state_dict()


def of_zeros(name):
    """Names and shapes of a model's weights, which are what decides."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    return {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in model.state_dict().items()}


def unset(name, size):
    """A backbone whose first weights were not drawn, which takes VGG seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for drawn in ("normal_", "kaiming_normal_", "kaiming_uniform_", "uniform_"):
            patch.setattr(f"torch.nn.init.{drawn}", lambda tensor, *_, **__: tensor)
        return Torchvision((3, size, size), name=name)


def under(prefix):
    return lambda weights: {f"{prefix}{k}": v for k, v in weights.items()}


# the weights of torchvision's resnet18 in the forms in which people have them
FORMS = {
    "plain": lambda w: w,
    "data parallel": under("module."),
    "lightning": lambda w: {"state_dict": under("model.")(w), "epoch": 3, "lr": [0.1]},
    "lightning with a net": lambda w: {"state_dict": under("net.")(w)},
    "network": under("network."),
    "feature extractor": under("feature_extractor."),
    "compiled": under("_orig_mod."),
    "compiled and parallel": under("_orig_mod.module."),
    "EMA": lambda w: {"n_averaged": torch.tensor(7), **under("module.")(w)},
    "EMA in a checkpoint": lambda w: {"epoch": 1, "model_ema": under("module.")(w)},
    "optimiser beside it": lambda w: {
        "student": {"backbone": w},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    },
    "head of other classes": lambda w: w | {"fc.weight": torch.zeros(7, 512), "fc.bias": None},
    "without a head": lambda w: {k: v for k, v in w.items() if not k.startswith("fc.")},
    "without counters": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
    "all in half precision": lambda w: {k: v.half() for k, v in w.items()},
    "double precision": lambda w: {
        k: v.double() if v.is_floating_point() else v.int() for k, v in w.items()
    },
    "half precision": lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
    "projector beside it": lambda w: w | {"projector.0.weight": torch.zeros(8, 512)},
    "safetensors": lambda w: w,
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_every_form_give_the_same_features(tmp_path, form):
    weights, x = of_torchvision(), torch.rand(2, 3, 32, 32)
    with torch.device("meta"):  # its own first weights are of no use
        whole = torchvision.models.resnet18(weights=None)
    whole.load_state_dict(weights, assign=True)
    whole.fc = torch.nn.Identity()
    backbone = Torchvision((3, 32, 32), name="resnet18")
    content = {k: v for k, v in FORMS[form](weights).items() if v is not None}
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    (save_file if form == "safetensors" else torch.save)(content, file)
    said = fill(backbone, read(file), file.name)
    assert said.startswith("backbone: 120 of 120 tensors from")
    assert not backbone.unfilled
    normal = backbone.pixels(x)
    tolerance = 0.05 if "half" in form else 0
    torch.testing.assert_close(
        backbone.eval()(x), whole.eval()(normal), atol=tolerance, rtol=tolerance
    )


@pytest.mark.parametrize(("name", "file"), [("resnet18", "resnet34"), ("vgg11", "vgg13")])
def test_weights_of_another_depth_are_refused(name, file):
    size = 64 if name == "vgg11" else 32
    with pytest.raises(CheckpointError, match=r"of another network|Is it of another backbone"):
        fill(unset(name, size), of_zeros(file), "w.pth")


def test_a_head_at_the_end_of_the_last_block_is_no_other_depth():
    said = fill(unset("vgg11", 64), of_zeros("vgg11"), "w.pth")
    assert "2 more not used (classifier.6.weight, classifier.6.bias)" in said


def test_tensors_that_a_file_has_not_are_named():
    backbone = Torchvision((3, 32, 32), name="resnet18")
    weights = {k: v for k, v in of_torchvision().items() if not k.startswith("layer1.1.conv2")}
    assert "119 of 120 tensors" in fill(backbone, weights, "w.pth")
    assert backbone.unfilled == ["model.layer1.1.conv2.weight"]


def test_a_checkpoint_of_objects_names_them_and_the_cure(tmp_path):
    torch.save({"state_dict": of_torchvision(), "args": Namespace(lr=1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"more than tensors \(argparse.Namespace\)") as said:
        read(tmp_path / "w.pth")
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(said.value)


def test_little_that_matches_is_an_error(tmp_path):
    one = build("method=source_only")[2].encoder
    with pytest.raises(CheckpointError, match="Is it of another backbone"):
        fill(one, {"conv.weight": torch.zeros(3)}, "w.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read(tmp_path / "none.pt")


def in_convolution(change):
    """What makes a state dict one whose convolutions' weights are changed."""
    return lambda w: {k: change(v) if v.dim() == 4 else v for k, v in w.items()}


def holding_itself(weights):
    content = dict(weights)
    content["again"] = content
    return content


def nested(weights):
    content = weights
    for _ in range(200):
        content = {"a": content}
    return content


def quantized(weight):
    return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


# what is made of the weights of a network, and what is said of it
UNUSABLE = {
    "integers": (in_convolution(Tensor.long), "{} is int64, and the network's is float32. Save"),
    "complex": (in_convolution(lambda v: v + 0j), "{} is complex64, and the network's is float32"),
    "booleans": (in_convolution(Tensor.bool), "{} is bool, and the network's is float32. Save"),
    "8 bits": (
        in_convolution(lambda v: v.to(torch.float8_e4m3fn)),
        "{} is float8_e4m3fn, and the network's is float32. Save the weights as they were trained: "
        "in float32 or float64 or float16 or bfloat16.",
    ),
    "NaN": (
        in_convolution(lambda v: v.clone().index_fill_(0, torch.tensor(0), torch.nan)),
        "has NaN or infinite values in 19 of 114 tensors that this network would take ({}, ",
    ),
    "infinite": (in_convolution(lambda v: v / 0), "has NaN or infinite values in 19 of 114"),
    "too large": (in_convolution(lambda v: v.double() * 1e300), "infinite values in 19 of 114"),
    "meta": (in_convolution(lambda v: v.to("meta")), "{} has a shape and no values (device meta)"),
    "sparse": (in_convolution(Tensor.to_sparse), "{} is stored as sparse_coo. Save it by to_dense"),
    "quantized": (in_convolution(quantized), "{} is quantized (qint8)"),
    "holding itself": (holding_itself, "mappings are nested in one another without end"),
    "nested": (nested, "mappings are nested in one another without end"),
}


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("wrong", UNUSABLE)
def test_tensors_that_are_no_weights_are_refused(tmp_path, wrong):
    backbone = bare("resnet20")
    before = {k: v.clone() for k, v in state(backbone).items()}
    change, said = UNUSABLE[wrong]
    torch.save({"net": under("0.")(change(before))}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError) as error:
        fill(backbone, read(tmp_path / "w.pt"), "w.pt")
    first = next(name for name, value in before.items() if value.dim() == 4)
    assert said.format(f"0.{first}") in str(error.value)
    assert str(error.value).startswith("backbone.weights=")
    assert "\n" not in str(error.value)
    assert same(state(backbone), before)


def test_a_file_of_endlessly_many_entries_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(_weights_file, "MOST_ENTRIES", 50)
    content = {"t": torch.zeros(1)}
    for _ in range(3):
        content = {str(i): content for i in range(5)}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="hold more than 50 entries"):
        read(tmp_path / "w.pt")


def test_weights_that_cannot_be_brought_into_shape_are_refused(monkeypatch):
    def translate(self, weights):
        return {name: value.view(7, -1) for name, value in weights.items()}

    backbone = bare("resnet20")
    monkeypatch.setattr(type(backbone), "translate", translate)
    with pytest.raises(CheckpointError, match=r"w.pt does not fit this backbone \(shape"):
        fill(backbone, state(backbone), "w.pt")


# content of a file that should hold weights, and what is said of it
NO_WEIGHTS = {
    "empty": (b"", "the file is empty"),
    "words": (b"Not Found", "this is a text file (it begins with 'Not Found')"),
    "one word": (b"text", "this is a text file (it begins with 'text')"),
    "table": (b"a,b\n1,2\n", "this is a text file (it begins with 'a,b')"),
    "long": ("ö".encode() * 500, f"this is a text file (it begins with '{'ö' * 40}')"),
    "git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
        "which git-lfs leaves in place of a large file. Fetch the file itself: git lfs pull",
    ),
    "page": (
        b"\n<!doctype HTML>\n<html></html>",
        "this is a web page (it begins with '<!doctype HTML>'), saved instead of the file",
    ),
    "pickle": (pickle.dumps([1], protocol=4), "(UnpicklingError: "),
    "numbers": (bytes(range(256)), "cannot be read as weights ("),
}


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_files_that_are_no_weights_are_told_apart(tmp_path, kind, ending):
    content, said = NO_WEIGHTS[kind]
    (tmp_path / f"w.{ending}").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as weights") as error:
        read(tmp_path / f"w.{ending}")
    if ending == "pt" or kind != "pickle":
        assert said in str(error.value)
    assert "PyTorch 2.6" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_checkpoints_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run's folder: it has no checkpoints/last.pt"):
        read(tmp_path)


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
