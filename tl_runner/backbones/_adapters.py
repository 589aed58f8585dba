"""Adapters: weights that stay as they are, seen through a few numbers that are trained.

Each is a parametrization of a weight, so the layer works with the adapted weight itself: grouped
convolutions, padding of any kind, standardised weights and attention that reads its weights past
its layers' forward passes see it like every other, and merging is exact to the bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# what libraries call the layers that make queries, keys and values
NAMES = {
    "q": ("query", "q_proj", "q_lin", "to_q", "q", "query_proj", "wq"),
    "k": ("key", "k_proj", "k_lin", "to_k", "k", "key_proj", "wk"),
    "v": ("value", "v_proj", "v_lin", "to_v", "v", "value_proj", "wv"),
}
TOGETHER = ("qkv", "Wqkv")  # one layer for all three
# classes by module whose one layer makes all queries, then all keys, then all values; elsewhere
# they alternate by head, or there are no queries
STACKED = {
    "timm.layers.attention": ("Attention", "AttentionRope"),
    "timm.models.vision_transformer": ("Attention",),
    "timm.models.swin_transformer": ("WindowAttention",),
    "torchvision.models.swin_transformer": ("ShiftedWindowAttention",),
    "transformers.models.modernbert.modeling_modernbert": ("ModernBertAttention",),
}
# the second layer of a block's inner network, which reads its activations
INNER = re.compile(r"(?!.*(?:attention|\bse\b)).*(?:\b(?:fc2|lin2|linear2|mlp\.3)|output\.dense)")
ATTENTION = re.compile(r"Attention|Attn")  # in the names of classes
# as PyTorch names a parametrized tensor and what changes it
PARAMETRIZED = re.compile(r"(.*\.)?parametrizations\.([^.]+)\.(?:(original)|0\.([^.]+))")

TINY = 1e-12  # instead of a length of 0

Adapter = TypeVar("Adapter", bound=nn.Module)


class Weight(NamedTuple):
    """A parameter of a module that is adapted.

    Attributes:
        module, name: of it.
        parts: matrices that it holds below each other: 3 where one holds an attention's queries,
            keys and values.
    """

    module: nn.Module
    name: str
    parts: int = 1

    @property
    def value(self) -> Tensor:
        """(out, ...)."""
        value: Tensor = getattr(self.module, self.name)
        return value

    def adapt(self, adapter: Adapter) -> Adapter:
        """Put an adapter on it, in place."""
        parametrize.register_parametrization(self.module, self.name, adapter)
        return adapter


class LowRank(nn.Module):
    """Adapted weight W + alpha / rank * B A of a linear or convolutional layer.

    The weight is seen as a matrix (out, everything else).

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1: A is
    random, B begins at 0, so that the layer begins as it was.

    Args:
        weight: of the layer, (out, ...).
        rank: of the product, at most the matrix's own.
        alpha: see above.
        parts: matrices that the weight holds below each other; each has a product of its own.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float, parts: int = 1):
        super().__init__()
        out, into = len(weight) // parts, weight[0].numel()
        rank = min(rank, out, into)
        several = (parts,) if parts > 1 else ()
        self.register_buffer("scale", torch.tensor(alpha / rank, device=weight.device))
        self.a = nn.Parameter(torch.empty(*several, rank, into, device=weight.device))
        self.b = nn.Parameter(torch.zeros(*several, out, rank, device=weight.device))
        for a in self.a if several else [self.a]:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return self.adapted(weight, {"scale": self.scale, "a": self.a, "b": self.b})

    @classmethod
    def adapted(cls, weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The weight under an adapter's own tensors."""
        return weight + (own["scale"] * own["b"] @ own["a"]).view_as(weight)

    def begin(self, weight: Tensor) -> None:
        """Nothing: B is 0, so the weight is what it was."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        state.setdefault(f"{prefix}scale", self.scale)  # a run of before it was kept
        super()._load_from_state_dict(state, prefix, *rest)


class Decomposed(LowRank):
    """Adapted weight m (W + alpha / rank * B A) / ||W + alpha / rank * B A||: length and direction.

    Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024, eq. 5; the norm is of the
    weights of one output and, by section 4.3, has no gradient. m is the norm of W as
    :meth:`begin` finds it; before, the weight is W.
    """

    begun: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float, parts: int = 1):
        super().__init__(weight, rank, alpha, parts)
        self.m = nn.Parameter(self._lengths(weight.detach()))
        self.register_buffer("begun", torch.tensor(False))
        self.active = False  # the same, where asking for it waits for no device

    def forward(self, weight: Tensor) -> Tensor:
        own = {"scale": self.scale, "a": self.a, "b": self.b, "m": self.m}
        return self._decomposed(weight, own) if self.active else weight

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        """Take up the lengths of a weight as it is now, after training on the source say."""
        own = {"scale": self.scale, "a": self.a, "b": self.b}
        self.m.copy_(self._lengths(LowRank.adapted(weight, own)))
        self.begun.fill_(True)
        self.active = True

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.active = bool(self.begun)

    @classmethod
    def adapted(cls, weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The weight under an adapter's own tensors."""
        return cls._decomposed(weight, own) if own["begun"] else weight

    @classmethod
    def _decomposed(cls, weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        moved = LowRank.adapted(weight, own)
        # with nothing added the ratio is 1 to the bit, so the layer begins as it was
        lengths = cls._lengths(moved.detach()).clamp(min=TINY)
        return moved * (own["m"] / lengths).view(-1, *[1] * (weight.ndim - 1))

    @staticmethod
    def _lengths(weight: Tensor) -> Tensor:
        """Of the weights of each output, (out,)."""
        return weight.flatten(1).norm(dim=1)


class Rescaled(nn.Module):
    """Adapted weight: rows, or columns, times numbers that begin as 1.

    Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning", NeurIPS 2022, section 3.3 (IA3): what a layer gives out, or takes in, is scaled.

    Args:
        shape: of the weight, (out, in), or of a bias, (out).
        inputs: whether a number scales an input; else an output.
        first: outputs before this one stay as they are.
    """

    inputs: Tensor

    def __init__(self, shape: Sequence[int], inputs: bool = False, first: int = 0):
        super().__init__()
        self.register_buffer("inputs", torch.tensor(inputs))
        self.column = inputs
        self.l = nn.Parameter(torch.ones(shape[1] if inputs else shape[0] - first))

    def forward(self, weight: Tensor) -> Tensor:
        return self._times(weight, self.l, self.column)

    @classmethod
    def adapted(cls, weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The weight under an adapter's own tensors."""
        return cls._times(weight, own["l"], bool(own["inputs"]))

    @staticmethod
    def _times(weight: Tensor, scale: Tensor, column: bool) -> Tensor:
        if column:
            return weight * scale
        still = scale.new_ones(len(weight) - len(scale))
        return weight * torch.cat([still, scale]).view(-1, *[1] * (weight.ndim - 1))


def layers(network: nn.Module) -> list[Weight]:
    """The weights of every linear and convolutional layer, and of attention's projections."""
    attention = {(id(w.module), w.name): w for _, w in projections(network)}
    every = [
        Weight(m, "weight")
        for m in network.modules()
        if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    return [*(attention.pop((id(w.module), w.name), w) for w in every), *attention.values()]


def projections(network: nn.Module, kinds: str = "qkv") -> list[tuple[str, Weight]]:
    """The weights that make queries, keys or values, with their modules' paths."""
    found = []
    names = {name for kind in kinds for name in NAMES[kind]}
    modules = dict(network.named_modules())
    for path, module in modules.items():
        owner, _, name = path.rpartition(".")
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append((path, Weight(module, "in_proj_weight", parts=3)))
        elif isinstance(module, nn.MultiheadAttention):  # keys of another width
            found += [(path, Weight(module, f"{kind}_proj_weight")) for kind in kinds]
        elif isinstance(module, nn.Linear) and name in TOGETHER:
            found.append((path, Weight(module, "weight", 3 if _stacked(modules[owner]) else 1)))
        elif isinstance(module, nn.Linear) and name in names:
            found.append((path, Weight(module, "weight")))
    return found


def missed(network: nn.Module, found: Sequence[tuple[str, Weight]]) -> list[str]:
    """Paths of the modules that are attention by their class's name, have layers of their own, and
    none of the weights ``found`` in them."""
    paths = [path for path, _ in found]
    return [
        path
        for path, module in network.named_modules()
        if ATTENTION.search(type(module).__name__)
        and any(isinstance(own, nn.Linear) for own in module.children())
        and not any(other == path or other.startswith(f"{path}.") for other in paths)
        and not any(path.startswith(f"{other}.") for other in paths)
    ]


def rescale(network: nn.Module) -> list[Rescaled]:
    """IA3's numbers, in place, on keys, values and what a block's second linear layer takes in.

    Raises:
        ValueError: the network has no attention, or none of whose weights it is known which make
            keys and values with which biases; nothing is changed.
    """
    attention = projections(network, "kv")
    inner = [m for path, m in network.named_modules() if _reads_activations(path, m)]
    if not attention:
        raise ValueError("has no attention whose keys and values are known")
    if left := missed(network, attention):
        raise ValueError(f"has attention whose keys and values are not known ({left[0]})")
    if not inner:
        raise ValueError("has no inner layers that are known")
    modules = dict(network.named_modules())
    for path, weight in attention:
        together = path.rpartition(".")[2] in TOGETHER
        apart = any(getattr(modules[path.rpartition(".")[0]], b, None) is not None for b in BIASES)
        widths = weight.name.endswith("_proj_weight") and weight.name != "in_proj_weight"
        if (together and weight.parts != 3) or apart or widths:
            raise ValueError(f"has attention whose layout is not known ({path})")
    adapters = [one for _, weight in attention for one in _keys_and_values(weight)]
    for module in inner:
        adapters.append(Weight(module, "weight").adapt(Rescaled(module.weight.shape, True)))
    return adapters


BIASES = ("q_bias", "k_bias", "v_bias")  # where they stand beside the layer


def _keys_and_values(weight: Weight) -> list[Rescaled]:
    first = len(weight.value) // 3 if weight.parts == 3 else 0
    adapter = weight.adapt(Rescaled(weight.value.shape, first=first))
    bias = weight.name.replace("weight", "bias")
    if (old := getattr(weight.module, bias, None)) is not None:
        of_bias = Rescaled(old.shape, first=first)
        of_bias.l = adapter.l  # one number for an output
        Weight(weight.module, bias).adapt(of_bias)
    return [adapter]


def _reads_activations(path: str, module: nn.Module) -> bool:
    narrows = isinstance(module, nn.Linear) and module.in_features > module.out_features
    return narrows and INNER.fullmatch(path) is not None


def _stacked(owner: nn.Module) -> bool:
    return any(c.__name__ in STACKED.get(c.__module__, ()) for c in type(owner).__mro__)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in which adapted weights stand under their own names, adapters put in.

    Raises:
        RuntimeError: shapes of an adapter and its weight do not go together.
    """
    found = dict(state)
    adapted: dict[str, dict[str, str]] = {}
    for name in state:
        if match := PARAMETRIZED.fullmatch(name):
            owner, tensor, original, own = match.groups()
            adapted.setdefault(f"{owner or ''}{tensor}", {})[own or original] = name
    for name, names in adapted.items():
        rule = RULES.get(frozenset(names) - {"original"})
        if rule is not None and "original" in names:  # else of another library
            own_tensors = {own: found.pop(full) for own, full in names.items()}
            found[name] = rule(own_tensors["original"], own_tensors)
    return found


# by the tensors that an adapter has: the weight under it
RULES: Mapping[frozenset[str], Callable[[Tensor, Mapping[str, Tensor]], Tensor]] = {
    frozenset(("scale", "a", "b")): LowRank.adapted,
    frozenset(("scale", "a", "b", "m", "begun")): Decomposed.adapted,
    frozenset(("l", "inputs")): Rescaled.adapted,
}
