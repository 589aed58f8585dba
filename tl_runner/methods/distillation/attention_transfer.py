"""Attention transfer: the student looks where the teacher looks, layer by layer.

Zagoruyko & Komodakis, "Paying More Attention to Attention: Improving the Performance of
Convolutional Neural Networks via Attention Transfer", ICLR 2017, eq. 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tl_runner.backbones._inner_layers import Seen, maps_of_each_size, with_shapes
from tl_runner.errors import ConfigError
from tl_runner.losses.distillation import attention, attention_distance
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples
from tl_runner.methods.distillation._base import Distillation


class AttentionTransfer(Distillation):
    """Phases: ``teach``, the student by labels alone, ``distil``.

    Args:
        weight: beta.
        form: ``code``, the mean squared difference of the authors' program; ``paper``, the norm of
            eq. 2.
    """

    def __init__(self, setting: Setting, *, weight: float, form: str, **options: Any):
        super().__init__(setting, **options)
        self.weight, self.form = weight, form

    def pairs(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        named: Sequence[str] | None,
        taught: Sequence[str] | None,
    ) -> list[tuple[str, str]]:
        """By default the last maps of each size that both have."""
        if named and taught:
            return list(zip(named, taught, strict=True))
        own, others = (
            maps_of_each_size({k: v for k, v in found.items() if not names or k in names})
            for found, names in ((student, named), (teacher, taught))
        )
        if both := [size for size in own if size in others]:
            return [(own[size], others[size]) for size in both]
        mapless = [name for name, maps in (("student", own), ("teacher", others)) if not maps]
        why = f"the {mapless[0]} has none" if mapless else "these networks share none"
        cure = (
            "Choose networks that halve images alike (backbone=small_cnn "
            "backbone@teacher=small_cnn), or name layers that match."
        )
        raise ConfigError(
            [
                f"attention is compared between maps of one height and width, and {why}. {cure} "
                f"The student has {with_shapes(student)}. The teacher has {with_shapes(teacher)}."
            ]
        )

    def unlike(self, student: Tensor, teacher: Tensor) -> str | None:
        """Maps, of one height and width."""
        if student.ndim == teacher.ndim == 4 and student.shape[2:] == teacher.shape[2:]:
            return None
        return (
            "attention needs maps of one height and width, and these are "
            f"{tuple(student.shape[1:])} and {tuple(teacher.shape[1:])}."
        )

    def answers(self, teacher: Seen) -> dict[str, Tensor]:
        return {path: attention(teacher.layers[path]) for _, path in self.layers}

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        distances = [
            attention_distance(attention(student.layers[own]), teacher[path], self.form)
            for own, path in self.layers
        ]
        return {"attention": self.weight * torch.stack(distances).sum()}
