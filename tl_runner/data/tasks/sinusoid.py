"""Sinusoids y = A sin(x - phase) from a few points, a task for each amplitude and phase.

The regression of the MAML paper.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1: A in [0.1, 5], phase
in [0, pi], x in [-5, 5].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tl_runner.data.episodes import Drawn, Episodes
from tl_runner.data.task import Task
from tl_runner.errors import ConfigError


class Sinusoids(Episodes):
    """Tasks drawn afresh, amplitude, phase and points uniform.

    Args:
        ranges: of ``amplitude``, ``phase`` and ``x``, (low, high) each.
    """

    shape, ways = (1, 1, 1), 1

    def __init__(
        self, ranges: Mapping[str, Sequence[float]], *, shots: int, queries: int, scored: int = 0
    ):
        self.shots, self.queries, self.scored = shots, queries, scored
        self.ranges = [ranges[name] for name in ("amplitude", "phase", "x")]

    def __len__(self) -> int:
        return 1

    def plan(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Points, float32 (tasks, shots + queries, 2): x and y."""
        (a, b), (c, d), (e, f) = self.ranges
        amplitude = a + (b - a) * torch.rand(tasks, 1, generator=generator)
        phase = c + (d - c) * torch.rand(tasks, 1, generator=generator)
        x = e + (f - e) * torch.rand(tasks, self.shots + self.queries, generator=generator)
        return torch.stack([x, amplitude * torch.sin(x - phase)], 2)

    def at(self, plan: Tensor) -> Drawn:
        support, query = plan.split((self.shots, self.queries), 1)
        none = torch.zeros_like(plan[:, :, 0], dtype=torch.int64)
        parts = [
            (s[:, :, :1, None, None], s[:, :, 1], i)
            for s, i in zip(
                (support, query), none.split((self.shots, self.queries), 1), strict=True
            )
        ]
        return Drawn(*parts[0], *parts[1])

    def to(self, device: torch.device) -> Sinusoids:
        return self  # a plan brings its points along


def load(
    *,
    shots: int,
    queries: int,
    training: Mapping[str, int | None],
    tasks: Mapping[str, int],
    amplitude: Sequence[float],
    phase: Sequence[float],
    x: Sequence[float],
    seed: int,
) -> Task:
    """The task; nothing of it depends on ``seed``, which draws the single tasks elsewhere.

    Args:
        shots, queries: points of validation and test tasks; ``training``'s, where they are others.
        tasks: how many of them validation and test scores are means over.

    Raises:
        ConfigError: a range that ends before it begins.
    """
    ranges = {"amplitude": amplitude, "phase": phase, "x": x}
    if wrong := [
        f"data.{name}={[*r]}: from the smaller to the larger number."
        for name, r in ranges.items()
        if r[0] > r[1]
    ]:
        raise ConfigError(wrong)
    usual = {"shots": shots, "queries": queries}
    trained = usual | {key: value for key, value in training.items() if value is not None}
    sizes = (
        f"{shots} points, {queries} to be asked about (training {trained['shots']}, "
        f"{trained['queries']})"
    )
    return Task(
        name="sinusoid",
        classes=("y",),
        splits={},
        protocol=f"{sizes}; A in {_range(amplitude)}, phase in {_range(phase)}, x in {_range(x)}",
        episodes={
            "meta_train": Sinusoids(ranges, **trained),
            "meta_val": Sinusoids(ranges, **usual, scored=tasks["val"]),
            "meta_test": Sinusoids(ranges, **usual, scored=tasks["test"]),
        },
    )


def _range(ends: Sequence[float]) -> str:
    return f"[{ends[0]:g}, {ends[1]:.4g}]"
