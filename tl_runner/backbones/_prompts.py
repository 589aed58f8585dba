"""Prompts: tokens that are learned and stand before a transformer's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.errors import ConfigError

# classes whose layers take tokens (B, N, d) and give such, and where the layers are
PICTURES = {
    "timm.models.vision_transformer": "blocks",
    "torchvision.models.vision_transformer": "encoder.layers",
}
WIDTHS = ("hidden_size", "dim", "embed_dim", "hidden_dim")  # names of a token's width
TOKENS = "prompts.tokens"  # how their name ends in a state dict
# of transformers: mask and tokens are all that their layers read
KINDS = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "electra", "ernie"),
    *("roformer", "data2vec-text", "roberta-prelayernorm", "xlm-roberta-xl"),
)
TEXTS = ("encoder.layer", "transformer.layer")  # of transformers' encoders with an embedding


class Prompts(nn.Module):
    """Learned tokens of one or more layers, which the network does not see before :meth:`begin`.

    Args:
        layers: that have tokens of their own.
        number: of tokens.
        width: of a token.
    """

    begun: Tensor

    def __init__(self, layers: int, number: int, width: int):
        super().__init__()
        self.register_buffer("begun", torch.tensor(False))
        self.active = False  # the same, where asking for it waits for no device
        bound = (6 / width) ** 0.5  # Glorot's; Jia et al. add a patch's size to the width
        self.tokens = nn.Parameter(torch.empty(layers, number, width).uniform_(-bound, bound))

    def begin(self) -> None:
        """Put them before the network's own tokens from now on."""
        self.begun.fill_(True)
        self.active = True

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.active = bool(self.begun)


@dataclass
class Insert:
    """A hook: tokens (B, N, d) that a layer is given, or gives, with prompts behind the first.

    Attributes:
        prompts: the learned tokens.
        layer: whose tokens.
        behind: tokens of the network's own that stay in front, such as a class token.
        again: prompts of the layer before are there, and these take their place.
    """

    prompts: Prompts
    layer: int
    behind: int
    again: bool = False

    def put(self, x: Tensor) -> Tensor:
        """Tokens (B, N, d) with the prompts."""
        if not self.prompts.active:
            return x
        # x.shape[0], where an exporter would take len(x) for a constant
        new = self.prompts.tokens[self.layer].to(x.dtype).expand(x.shape[0], -1, -1)
        rest = self.behind + (new.shape[1] if self.again else 0)
        return torch.cat([x[:, : self.behind], new, x[:, rest:]], dim=1)

    def before(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """As a hook before a layer."""
        return (self.put(given[0]), *given[1:])

    def after(self, module: nn.Module, given: Any, out: Tensor) -> Tensor:
        """As a hook behind what makes the tokens."""
        return self.put(out)


@dataclass
class Remove:
    """A hook behind a transformer's last layer, or whole: its states without the prompts'."""

    prompts: Prompts
    behind: int

    def _without(self, x: Tensor) -> Tensor:
        rest = self.behind + self.prompts.tokens.shape[1]
        return torch.cat([x[:, : self.behind], x[:, rest:]], dim=1) if self.prompts.active else x

    def after(self, module: nn.Module, given: Any, out: Any) -> Any:
        """As a hook behind a layer, or a model of transformers."""
        if isinstance(out, Tensor):
            return self._without(out)
        out["last_hidden_state"] = self._without(out["last_hidden_state"])
        return out


@dataclass
class Unmask:
    """A hook before a text encoder: the mask of its tokens has ones for the prompts."""

    prompts: Prompts

    def before(
        self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As a hook with keywords."""
        if not self.prompts.active:
            return given, named
        mask = named["attention_mask"]
        ones = mask.new_ones(mask.shape[0], self.prompts.tokens.shape[1])
        return given, {**named, "attention_mask": torch.cat([ones, mask], dim=1)}


def prompt(network: nn.Module, number: int, deep: bool) -> Prompts:
    """Prompts put into a transformer, in place.

    Args:
        network: a backbone with a transformer of timm, torchvision or transformers.
        number: of prompts.
        deep: every layer has prompts of its own, in the place of the layer's before; else the
            first alone.

    Raises:
        ConfigError: it is none of these.
    """
    model, layers, words = _transformer(network)
    where: Any = model.config if words else model
    width = int(next(getattr(where, name) for name in WIDTHS if hasattr(where, name)))
    prompts = Prompts(len(layers) if deep else 1, number, width)
    model.prompts = prompts
    behind = 0 if words else int(getattr(model, "num_prefix_tokens", 1))  # torchvision's has one
    first = Insert(prompts, 0, behind)
    if words:
        words.register_forward_hook(first.after)
        model.register_forward_pre_hook(Unmask(prompts).before, with_kwargs=True)
        model.register_forward_hook(Remove(prompts, behind).after)
    else:
        layers[0].register_forward_pre_hook(first.before)
        layers[-1].register_forward_hook(Remove(prompts, behind).after)
    if deep:
        for i in range(1, len(layers)):
            again = Insert(prompts, i, behind, again=True)
            layers[i].register_forward_pre_hook(again.before)
    return prompts


def _transformer(
    network: nn.Module,
) -> tuple[nn.Module, nn.Sequential | nn.ModuleList, nn.Module | None]:
    """(model, its layers, what makes a text's words tokens)."""
    for model in network.modules():
        paths = [PICTURES[c.__module__] for c in type(model).__mro__ if _tokens_alone(c)]
        words = None if paths else _words(model)
        for path in TEXTS if words else paths:
            owner, _, name = path.rpartition(".")
            layers = getattr(getattr(model, owner, None) if owner else model, name, None)
            if isinstance(layers, nn.Sequential | nn.ModuleList):
                return model, layers, words
    raise ConfigError(
        [
            "method=prompt puts tokens before a transformer's own, and this backbone is none of "
            "those that it knows: backbone=text (BERT and its kin), backbone=timm "
            "backbone.name=vit_..., backbone=torchvision backbone.name=vit_.... method=lora takes "
            "any."
        ]
    )


def _words(model: nn.Module) -> nn.Module | None:
    """What makes the tokens of a text encoder of a known kind, as wide as its layers."""
    config: Any = getattr(model, "config", None)
    words = getattr(model, "embeddings", None)
    if getattr(config, "model_type", None) not in KINDS or not isinstance(words, nn.Module):
        return None
    narrow = getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    return None if narrow else words


def _tokens_alone(kind: type) -> bool:
    return kind.__name__ == "VisionTransformer" and kind.__module__ in PICTURES
