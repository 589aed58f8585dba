"""Bare loops of the methods that transfer a network: their last phase, on the target's labels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from bare import Bare, Ground, Learner, classify, view
from torch import Tensor, nn

from tl_runner.losses.distillation import softened_cross_entropy
from tl_runner.losses.regularisers import (
    batch_spectral_shrinkage,
    feature_map_distance,
    l1_sp,
    l2_sp,
)
from tl_runner.methods.batch import Samples

CHUNK = 500  # images at once in a pass over a whole split


def finetune(ground: Ground) -> Bare:
    return classify(ground, "target")


def regularised(ground: Ground, penalty: Callable[[Tensor], Tensor]) -> Bare:
    """Fine-tuning plus ``alpha`` times a penalty, which is given the features."""
    encoder, head = ground.method.encoder, ground.method.head
    learner, smoothing, alpha = (
        Learner(ground, [encoder, head]),
        ground.section["label_smoothing"],
        ground.options["alpha"],
    )

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            features = encoder(target.x)
            loss = F.cross_entropy(
                head(features), target.y, label_smoothing=smoothing
            ) + alpha * penalty(features)
        learner.descend(loss, progress)

    return Bare(step, [encoder, head])


def l2_start(ground: Ground) -> Bare:
    encoder, origin = ground.method.encoder, ground.method.origin
    return regularised(
        ground, lambda features: l2_sp([*encoder.parameters()], [*origin.parameters()])
    )


def l1_start(ground: Ground) -> Bare:
    encoder, origin = ground.method.encoder, ground.method.origin
    return regularised(
        ground, lambda features: l1_sp([*encoder.parameters()], [*origin.parameters()])
    )


def bss(ground: Ground) -> Bare:
    return regularised(ground, batch_spectral_shrinkage)


def linear_probe(ground: Ground) -> Bare:
    encoder, head = ground.method.encoder, ground.method.head
    learner, smoothing, kept = (
        Learner(ground, [head]),
        ground.section["label_smoothing"],
        torch.empty(0),
    )

    @torch.no_grad()
    def extract() -> None:
        nonlocal kept
        if not len(kept):
            ground.method.eval()
            with ground.device.autocast():
                kept = torch.cat(
                    [
                        encoder(view(x, None, ground.device)).float()
                        for x in ground.splits["target"].x.split(CHUNK)
                    ]
                )

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(kept[target.index]), target.y, label_smoothing=smoothing)
        learner.descend(loss, progress)

    return Bare(step, [head], extract)


def lora(ground: Ground) -> Bare:
    encoder, head, adapters = (
        ground.method.encoder,
        ground.method.head,
        nn.ModuleList(ground.method.adapters),
    )
    learner, smoothing = Learner(ground, [head, adapters]), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(encoder(target.x)), target.y, label_smoothing=smoothing)
        learner.descend(loss, progress)

    return Bare(step, [head, adapters])


def lwf(ground: Ground) -> Bare:
    method, options = ground.method, ground.options
    networks = [method.encoder, method.head, method.source_head]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            with torch.no_grad():
                recorded = method.origin_head(method.origin(target.x))
            features = method.encoder(target.x)
            new = F.cross_entropy(method.head(features), target.y, label_smoothing=smoothing)
            old = softened_cross_entropy(
                method.source_head(features), recorded, options["temperature"]
            )
        learner.descend(new + options["weight"] * old, progress)

    return Bare(step, networks)


class SplitPasses:
    """Passes over the target's labelled images, as the runner gives them."""

    epoch = 0

    def __init__(self, ground: Ground):
        self.ground = ground

    def some(self, values: Tensor, most: int) -> Tensor:
        return values if len(values) <= most else values[torch.arange(most) * len(values) // most]

    def __call__(self, network: Callable[[Tensor], Tensor], domain: str, most: int) -> Tensor:
        self.ground.method.eval()
        with self.ground.device.autocast():
            images = self.some(self.ground.splits[domain].x, most).split(CHUNK)
            return torch.cat([network(view(x, None, self.ground.device)).float() for x in images])

    def labels(self, domain: str, most: int) -> Tensor:
        return self.some(self.ground.splits[domain].y, most)


def delta(ground: Ground) -> Bare:
    method, options = ground.method, ground.options
    learner, smoothing = (
        Learner(ground, [method.encoder, method.head]),
        ground.section["label_smoothing"],
    )
    maps = {True: [], False: []}
    for now, network in ((True, method.encoder), (False, method.start_network)):
        for path in method.held:
            network.get_submodule(path).register_forward_hook(
                lambda layer, given, out, now=now: maps[now].append(out)
            )

    def step(target: Samples, progress: float) -> None:
        for found in maps.values():
            found.clear()
        with ground.device.autocast():
            with torch.no_grad():
                method.start_network(target.x)
            features = method.encoder(target.x)
            loss = F.cross_entropy(method.head(features), target.y, label_smoothing=smoothing)
            pairs = zip(maps[True], maps[False], method.weights.values(), strict=True)
            loss = loss + options["alpha"] * sum(feature_map_distance(*pair) for pair in pairs)
            loss = loss + options["beta"] / 2 * method.head.weight.square().sum()
        learner.descend(loss, progress)

    return Bare(step, [method.encoder, method.head], lambda: method.weigh(SplitPasses(ground)))


def joint(ground: Ground) -> Bare:
    method, weight = ground.method, ground.options["weight"]
    networks = [method.encoder, method.head, method.source_head]
    learner, smoothing = Learner(ground, networks), ground.section["label_smoothing"]

    def step(target: Samples, source: Samples, progress: float) -> None:
        with ground.device.autocast():
            new = F.cross_entropy(
                method.head(method.encoder(target.x)), target.y, label_smoothing=smoothing
            )
            old = F.cross_entropy(
                method.source_head(method.encoder(source.x)), source.y, label_smoothing=smoothing
            )
        learner.descend(new + weight * old, progress)

    return Bare(step, networks)


def multitask(ground: Ground) -> Bare:
    """With equal weights, and the cosines that the runner measures."""
    network, sizes = ground.method.shared, ground.method.sizes
    learner, smoothing = Learner(ground, [network]), ground.section["label_smoothing"]

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            features = network.encoder(target.x)
            losses = []
            for task, head in network.heads.items():
                y = target.y if task == "class" else target.also[task]
                said = head(features)
                losses.append(
                    F.cross_entropy(said, y, label_smoothing=smoothing)
                    if sizes[task]
                    else F.mse_loss(said[:, 0], y)
                )
            found = [
                torch.autograd.grad(loss, features, retain_graph=True)[0].flatten()
                for loss in losses
            ]
            for a, b in combinations(found, 2):
                F.cosine_similarity(a, b, dim=0)
        learner.descend(torch.stack(losses).sum(), progress)

    return Bare(step, [network])


TRANSFER: dict[str, Callable[[Ground], Bare]] = {
    "finetune": finetune,
    "l2_sp": l2_start,
    "l1_sp": l1_start,
    "bss": bss,
    "linear_probe": linear_probe,
    "lp_ft": finetune,
    "lora": lora,
    "lwf": lwf,
    "joint": joint,
    "multitask": multitask,
    "delta": delta,
    "autoencoder": linear_probe,
    "wise_ft": finetune,
    "ensemble": finetune,
}
