"""Few-shot methods of tiny networks in float64, and random batches of tasks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from tl_runner.backbones._base import Backbone
from tl_runner.methods.batch import Batch, TaskSet
from tl_runner.methods.fewshot.pretrain_all import PretrainAll
from tl_runner.methods.fewshot.protonet import ProtoNet
from tl_runner.methods.setting import Setting

SHAPE, WAYS, SHOTS, TASKS = (1, 2, 3), 3, 2, 4
OPTIMIZER = {"name": "adam", "lr": 1e-3}
META = {"epochs": 1, "steps_per_epoch": 1, "batch_size": TASKS, "optimizer": OPTIMIZER}


class Smooth(Backbone):
    """Inputs through a tanh, with batch norm or without."""

    def __init__(self, norm: bool = False):
        super().__init__()
        self.out_features = 5
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 5), *([nn.BatchNorm1d(5)] if norm else []), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def made(
    kind: type,
    steps: int = 1,
    rate: float = 0.4,
    norm: bool = False,
    bn: str = "transductive",
    batching: str = "vmap",
    **inner,
):
    """A method of tiny networks, in float64."""
    setting = Setting(inner.pop("classes", WAYS), SHAPE, partial(Smooth, norm), seed=0)
    inner = {
        "steps": steps,
        "rate": rate,
        "test_steps": 2,
        "test_rate": rate if kind is PretrainAll else None,
        "every_step": False,
    } | inner
    options = (
        {"inner": inner, "task_batching": batching, "chunk": None} if kind is not ProtoNet else {}
    )
    method = kind(setting, bn=bn, meta=META, **options).double()
    method.follow("loop" if batching == "loop" else "vmap")
    return method


def batch(tasks: int = TASKS, numbers: bool = False, seed: int = 0) -> Batch:
    """Random tasks, classes in order."""
    generator = torch.Generator().manual_seed(seed)
    n = WAYS * SHOTS

    def one() -> TaskSet:
        x = torch.randn(tasks, n, *SHAPE, generator=generator, dtype=torch.float64)
        y = torch.arange(WAYS).repeat_interleave(SHOTS).expand(tasks, -1)
        y = torch.randn(tasks, n, generator=generator, dtype=torch.float64) if numbers else y
        return TaskSet(x, y, torch.zeros(tasks, n, dtype=torch.int64), 1 if numbers else WAYS)

    return Batch(support=one(), query=one())
