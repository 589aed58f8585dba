"""Any classification model of torchvision, without its last layer."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.backbones._pixels import Pixels
from tl_runner.errors import ConfigError, nearest


class Torchvision(Backbone):
    """Images (B, C, H, W) to features (B, d), the width of the layer before the classifier.

    Grey images are repeated in three channels. Mean and deviation are those of the weights, not
    ImageNet's for all; where a file does not say, those of the model's default weights.

    Args:
        name: a model of ``torchvision.models``, such as ``resnet18``.

    Raises:
        ConfigError: torchvision has no such model for classification, or it takes no images of this
            size.
    """

    def __init__(self, shape: tuple[int, int, int], *, name: str):
        super().__init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise ConfigError(
                [
                    f"backbone.name={name}: torchvision has no such model for "
                    f"classification.{nearest(name, known)}"
                ]
            )
        # or they warn
        auxiliary = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
        self.model = torchvision.models.get_model(name, weights=None, **auxiliary)
        path, last = [
            (path, m) for path, m in self.model.named_modules() if isinstance(m, nn.Linear)
        ][-1]
        parent = self.model.get_submodule(path.rpartition(".")[0])
        setattr(parent, path.rpartition(".")[2], nn.Identity())
        self.out_features = last.in_features
        self.pixels = pixels_of(name)
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, *shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            why, size = " ".join(str(error).split())[:120], f"{shape[1]}x{shape[2]}"
            raise ConfigError(
                [
                    f"backbone.name={name} takes no images of {size} ({why}): set data.size, 224 "
                    "for instance."
                ]
            ) from error
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        features = self.model(self.pixels(x))
        # those with auxiliary heads, while training
        return features if isinstance(features, Tensor) else features[0]


def pixels_of(name: str, weights: str = "DEFAULT") -> Pixels:
    """Mean and deviation by the transforms of a set of weights; ImageNet's of a model without."""
    choices = torchvision.models.get_model_weights(name)
    if not len(choices):
        return Pixels()
    transforms = choices[weights].transforms()
    return Pixels(transforms.mean, transforms.std)


def published(name: str, weights: str) -> dict[str, Tensor]:
    """State dict of a model's published weights, with mean and deviation of their own.

    Downloaded into torch's own cache if they are not there yet.

    Raises:
        ConfigError: no such weights, or they cannot be downloaded.
    """
    choices = torchvision.models.get_model_weights(name)
    known = [w.name for w in choices]
    if weights not in known and weights != "DEFAULT":
        hint = f"There are {', '.join(known)}.{nearest(weights, known)}"
        raise ConfigError(
            [f"backbone.weights={weights}: no such file, nor weights of {name}. {hint}"]
        )
    chosen = choices[weights]
    file = f"{torch.hub.get_dir()}/checkpoints/{chosen.url.rpartition('/')[2]}"
    try:
        state: dict[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            [
                f"backbone.weights={weights} could not be downloaded ({error}).\n  Fetch "
                f"{chosen.url} "
                f"by hand and put it at {file}, "
                "give the path of a file as backbone.weights, or start from random ones: "
                "backbone.weights=null."
            ]
        ) from error
    pixels = pixels_of(name, weights).state_dict()
    return {**state, **{f"pixels.{part}": value for part, value in pixels.items()}}
