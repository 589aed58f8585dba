"""DELTA: fine-tuning plus the weighted distance of feature maps from the start's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bare._loop import CHUNK, Bare, Ground, Learner, view
from tl_runner.losses.regularisers import feature_map_distance
from tl_runner.methods.batch import Samples


class _SplitPasses:
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


def bare(ground: Ground) -> Bare:
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

    return Bare(step, [method.encoder, method.head], lambda: method.weigh(_SplitPasses(ground)))
