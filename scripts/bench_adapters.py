"""Adapters of ours beside PEFT's: time of a training step, and what merging changes.

    pip install peft timm transformers
    python scripts/bench_adapters.py

Rank 8 on every linear layer of a text encoder of MiniLM's size and of a small ViT, and on every
convolution of ResNet-18 that PEFT takes; random weights. Forward and backward pass, one process, in
turns, medians. The second table adapts one layer, disturbs the adapter and merges it. The last line
is the smallest ratio, our speed over theirs.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import peft
import timm
import torch
from timm.layers import StdConv2d
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from tl_runner.backbones._adapters import Decomposed, LowRank, layers, merged

RANK, ALPHA = 8, 16.0
Network = Callable[[], nn.Module]
KINDS = {"LoRA": LowRank, "DoRA": Decomposed}


def encoder() -> nn.Module:
    """A text encoder of MiniLM's size, as a module of tokens (B, L)."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=2000,
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
            )
            self.model = BertModel(config, add_pooling_layer=False)

        def forward(self, tokens: Tensor) -> Tensor:
            states: Tensor = self.model(input_ids=tokens).last_hidden_state
            return states

    return Encoder()


NETWORKS: dict[str, tuple[Network, Callable[[], Tensor]]] = {
    "MiniLM's size, 32 texts of 32": (encoder, lambda: torch.randint(2000, (32, 32))),
    "ViT-tiny, 4 pictures of 224": (
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0),
        lambda: torch.randn(4, 3, 224, 224),
    ),
    "ResNet-18, 8 pictures of 128": (
        lambda: timm.create_model("resnet18", num_classes=0),
        lambda: torch.randn(8, 3, 128, 128),
    ),
}
LAYERS: dict[str, tuple[Network, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(64, 64), (8, 64)),
    "convolution, zeros around": (lambda: nn.Conv2d(16, 16, 3, padding=1), (4, 16, 12, 12)),
    "convolution, reflected": (
        lambda: nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        (4, 16, 12, 12),
    ),
    "standardised convolution": (lambda: StdConv2d(16, 16, 3, padding=1), (4, 16, 12, 12)),
    "grouped convolution": (lambda: nn.Conv2d(16, 16, 3, padding=1, groups=4), (4, 16, 12, 12)),
    "attention of torch": (lambda: Itself(64), (4, 6, 64)),
}


class Itself(nn.Module):
    """Self-attention of PyTorch, whose queries, keys and values are one bare weight."""

    def __init__(self, width: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x)[0]
        return out


def of_ours(network: nn.Module, kind: type[LowRank]) -> nn.Module:
    """The network with adapters of ours on every layer, all else still."""
    network.requires_grad_(False)
    for weight in layers(network):
        weight.adapt(kind(weight.value, RANK, ALPHA, weight.parts)).begin(weight.value)
    return network


def of_peft(network: nn.Module, dora: bool) -> nn.Module:
    """The network with PEFT's on every layer that ours take, all else still."""
    found = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=found, use_dora=dora)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: nn.Module = peft.inject_adapter_in_model(config, network)
    return adapted


def in_turns(arms: dict[str, nn.Module], x: Tensor, turns: int) -> dict[str, float]:
    """Median seconds of a forward and a backward pass of each."""
    took: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(turns + 1):
        for name, network in arms.items():
            began = time.perf_counter()
            network(x).square().mean().backward()
            if turn:  # the first is not counted
                took[name].append(time.perf_counter() - began)
            network.zero_grad()
    return {name: statistics.median(values) for name, values in took.items()}


def change(layer: nn.Module, x: Tensor, merge: Callable[[nn.Module], nn.Module]) -> float:
    """How far merging a disturbed adapter moves the outputs, relative to their deviation."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=draw))
        before = layer(x)
        return float((merge(layer)(x) - before).abs().max() / before.std())


def merging(make: Network, shape: tuple[int, ...]) -> tuple[str, str]:
    """(ours, PEFT's) change by merging LoRA into a layer, in words."""
    torch.manual_seed(0)
    plain, x = nn.Sequential(make()), torch.randn(shape)

    def ours(adapted: nn.Module) -> nn.Module:
        other = copy.deepcopy(plain)
        other.load_state_dict(merged(adapted.state_dict()))
        return other

    def theirs(adapted: nn.Module) -> nn.Module:
        for module in adapted.modules():
            if hasattr(module, "merge") and hasattr(module, "unmerge"):
                module.merge()
        return adapted

    own = of_ours(copy.deepcopy(plain), LowRank)
    bare = sum(p.numel() for p in plain.parameters() if p.ndim > 1)
    words = [f"{change(own, x, ours):.0e}"]
    try:
        adapted = of_peft(copy.deepcopy(plain), dora=False)
        layers_of = [m for m in adapted.modules() if hasattr(m, "base_layer")]
        reached = sum(m.base_layer.weight.numel() for m in layers_of)
        words.append(f"{change(adapted, x, theirs):.0e}, {reached / bare:.0%} of weights adapted")
    except (ValueError, NotImplementedError, RuntimeError, AttributeError) as error:
        words.append(f"refused: {type(error).__name__}")
    return words[0], words[1]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    asked = parser.parse_args(words)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, peft {peft.__version__}")
    print("\n| network | adapter | ours, ms | PEFT, ms | ratio |\n| --- | --- | --- | --- | --- |")
    ratios = []
    for title, (make, draw) in NETWORKS.items():
        for name, kind in KINDS.items():
            arms = {"ours": of_ours(make(), kind), "peft": of_peft(make(), name == "DoRA")}
            took = in_turns(arms, draw(), asked.turns)
            ratios.append(took["peft"] / took["ours"])
            own, theirs = (f"{1000 * seconds:,.0f}" for seconds in took.values())
            print(f"| {title} | {name} | {own} | {theirs} | {ratios[-1]:.2f} |", flush=True)
    print("\n| layer | ours, change by merging | PEFT |\n| --- | --- | --- |")
    for title, (make, shape) in LAYERS.items():
        print("| {} | {} | {} |".format(title, *merging(make, shape)))
    print(f"{min(ratios):.2f}")


if __name__ == "__main__":
    main()
