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
    "q": ("query", "q_proj", "q_lin", "to_q"),
    "k": ("key", "k_proj", "k_lin", "to_k"),
    "v": ("value", "v_proj", "v_lin", "to_v"),
}
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

    @staticmethod
    def adapted(weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The weight under an adapter's own tensors."""
        return weight + (own["scale"] * own["b"] @ own["a"]).view_as(weight)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        state.setdefault(f"{prefix}scale", self.scale)  # a run of before it was kept
        super()._load_from_state_dict(state, prefix, *rest)


class Decomposed(LowRank):
    """Adapted weight m (W + alpha / rank * B A) / ||W + alpha / rank * B A||: length and direction.

    Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024, eq. 5; the norm is of the
    weights of one output and, by section 4.3, has no gradient. m begins as the norm of W.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, parts: int = 1):
        super().__init__(weight, rank, alpha, parts)
        self.m = nn.Parameter(weight.detach().flatten(1).norm(dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        own = {"scale": self.scale, "a": self.a, "b": self.b, "m": self.m}
        return self.adapted(weight, own)

    @staticmethod
    def adapted(weight: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The weight under an adapter's own tensors."""
        moved = LowRank.adapted(weight, own)
        # with nothing added the ratio is 1 to the bit, so the layer begins as it was
        lengths = moved.detach().flatten(1).norm(dim=1).clamp(min=TINY)
        return moved * (own["m"] / lengths).view(-1, *[1] * (weight.ndim - 1))


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
    for path, module in network.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append((path, Weight(module, "in_proj_weight", parts=3)))
        elif isinstance(module, nn.MultiheadAttention):  # keys of another width
            found += [(path, Weight(module, f"{kind}_proj_weight")) for kind in kinds]
        elif isinstance(module, nn.Linear) and name == "qkv":
            found.append((path, Weight(module, "weight", parts=3)))
        elif isinstance(module, nn.Linear) and name in names:
            found.append((path, Weight(module, "weight")))
    return found


def rescale(network: nn.Module) -> list[Rescaled]:
    """IA3's numbers, in place, on keys, values and what a block's second linear layer takes in."""
    adapters: list[Rescaled] = []
    attention = projections(network, "kv")
    for _, weight in attention:
        first = len(weight.value) // 3 if weight.parts == 3 else 0
        adapters.append(weight.adapt(Rescaled(weight.value.shape, first=first)))
        bias = weight.name.replace("weight", "bias")
        if (old := getattr(weight.module, bias, None)) is not None:
            of_bias = Rescaled(old.shape, first=first)
            of_bias.l = adapters[-1].l  # one number for an output
            Weight(weight.module, bias).adapt(of_bias)
    blocks = {_block(path) for path, _ in attention}
    for path, module in [*network.named_modules()]:
        narrows = isinstance(module, nn.Linear) and module.in_features > module.out_features
        if narrows and _block(path) in blocks:
            adapters.append(Weight(module, "weight").adapt(Rescaled(module.weight.shape, True)))
    return adapters


def _block(path: str) -> str:
    """The innermost numbered part of a network that a module is in."""
    parts = path.split(".")[:-1]
    while parts and not parts[-1][-1].isdigit():
        parts.pop()
    return ".".join(parts)


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
    frozenset(("scale", "a", "b", "m")): Decomposed.adapted,
    frozenset(("l", "inputs")): Rescaled.adapted,
}
