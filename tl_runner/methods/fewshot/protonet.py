"""ProtoNet: a class is the mean of its support features, an image belongs to the nearest.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, eq. 1-2,
algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.func import vmap

from tl_runner.methods.fewshot._base import MetaLearner, task_loss, task_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, TaskSet
    from tl_runner.methods.setting import Setting


class ProtoNet(MetaLearner):
    """Nothing is adapted. Training tasks may have more ways than test tasks
    (``data.training.ways``).

    With ``bn=running`` the images of a meta-batch are normalised together in training, in test by
    what was seen then.
    """

    def __init__(self, setting: Setting, *, bn: str, meta: Mapping[str, Any]):
        super().__init__(setting, bn=bn, task_batching="vmap", chunk=None, meta=meta)
        self.couples = bn == "running" and self.normed

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        logits = self.logits(batch.support, batch.query).flatten(0, 1)
        y = batch.query.y.flatten()
        return {"query": task_loss(logits, y)}, {"accuracy": task_metric(logits.detach(), y)}

    @torch.no_grad()
    def curve(self, support: TaskSet, query: TaskSet) -> Tensor:
        return self.logits(support, query)[:, None]

    def logits(self, support: TaskSet, query: TaskSet) -> Tensor:
        """Minus the squared Euclidean distances of the query features to the prototypes, (T, Q,
        K)."""
        support_z, query_z = self.embed_tasks(support.x, query.x)  # (T, n, d), (T, Q, d)
        belongs = F.one_hot(support.y, support.ways).to(support_z).mT  # (T, K, n)
        prototypes = belongs @ support_z / belongs.sum(2, keepdim=True)  # eq. 1
        # eq. 2 is a softmax of these
        return -(query_z[:, :, None] - prototypes[:, None]).square().sum(3)

    def embed_tasks(self, support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the sets of T tasks, normalised as ``bn`` says."""
        if self.bn != "running" and self.normed:
            return vmap(self.embed, randomness="different")(support_x, query_x)
        images = torch.cat([support_x, query_x], 1)
        features = self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        support_z, query_z = features.split((support_x.shape[1], query_x.shape[1]), 1)
        return support_z, query_z

    def batching_choices(self, tasks: int) -> dict[str, int]:
        return {}  # episodes are few and go together
