"""ProtoNet: a class is the mean of its support features, an image belongs to the nearest.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, eq. 1-2,
algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
from tl_runner.methods.fewshot._base import MetaLearner, task_loss, task_metric


class ProtoNet(MetaLearner):
    """Nothing is adapted. Training tasks may have more ways than test tasks
    (``data.training.ways``).

    With ``bn=running`` the images of a meta-batch are normalised together in training, in test by
    what was seen then.

    Raises:
        ConfigError: the data asks for numbers.
    """

    classes_only = True

    def __init__(self, setting: Setting, *, bn: str, meta: Mapping[str, Any]):
        super().__init__(setting, bn=bn, task_batching="vmap", chunk=None, meta=meta)
        self.couples = bn == "running" and self.normed

    def batching_choices(self, tasks: int) -> dict[str, int]:
        return {}  # episodes are few and go together

    def outputs(self, support: TaskSet, query: TaskSet) -> Tensor:
        """Minus the squared Euclidean distances of the query features to the prototypes, (T, Q,
        K)."""
        if self.bn == "running":
            images = torch.cat([support.x, query.x], 1)
            features = self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            z, asked = features.split((support.x.shape[1], query.x.shape[1]), 1)
        else:
            z, asked = vmap(self.embed, randomness="different")(support.x, query.x)
        belongs = F.one_hot(support.y, support.ways).to(z).mT  # (T, K, n)
        prototypes = belongs @ z / belongs.sum(2, keepdim=True)  # eq. 1
        # eq. 2 is a softmax of these
        return -(asked[:, :, None] - prototypes[:, None]).square().sum(3)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        said, y = self.outputs(batch.support, batch.query).flatten(0, 1), batch.query.y.flatten()
        return {"query": task_loss(said, y)}, {"accuracy": task_metric(said.detach(), y)}

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.outputs(support, query)[:, None]
