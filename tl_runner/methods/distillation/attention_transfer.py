"""Attention transfer: the student looks where the teacher looks, layer by layer.

Zagoruyko & Komodakis, "Paying More Attention to Attention: Improving the Performance of
Convolutional Neural Networks via Attention Transfer", ICLR 2017, eq. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.backbones._inner_layers import maps_of_each_size
from tl_runner.errors import ConfigError, one_of
from tl_runner.losses.distillation import ATTENTION_FORMS, attention, attention_distance
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.distillation._hints import (
    LayerOutputs,
    LayerPairs,
    layer_outputs,
    there_are,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.distillation._hints import Names
    from tl_runner.methods.setting import Setting


class AttentionTransfer(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``distil``.

    Args:
        weight: beta.
        form: ``code``, the mean squared difference of the authors' program; ``paper``, the norm of
            eq. 2.
        student_layers, teacher_layers: paths of the layers that are compared, in pairs; by default
            the last maps of each size that both networks have.

    Raises:
        ConfigError: no such form; layers that are not there or cannot be compared.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        weight: float,
        form: str,
        student_layers: Sequence[str] | None,
        teacher_layers: Sequence[str] | None,
        **options: Any,
    ):
        one_of("method.form", form, ATTENTION_FORMS)
        super().__init__(setting, **options)
        self.weight, self.form = weight, form
        if not setting.deployed:
            found = layer_outputs(self, student_layers, teacher_layers)
            paths = maps_of_the_same_size(found, student_layers, teacher_layers)
            self.layers = LayerPairs(self, found, paths, differing_size)

    def query_teachers(self, x: Tensor) -> dict[str, Tensor]:
        layers = self.layers.teacher(x)
        return {path: attention(layers[path]) for _, path in self.layers.paths}

    def step(self, batch: Batch, progress: float) -> Losses:
        student = self.student_outputs(batch, self.layers.student)
        losses, teacher = self.label_loss(batch, student), self.teacher_outputs(batch)
        distances = [
            attention_distance(attention(student.layers[own]), teacher[path], self.form)
            for own, path in self.layers.paths
        ]
        return {**losses, "attention": self.weight * torch.stack(distances).sum()}


def maps_of_the_same_size(
    found: LayerOutputs, student_layers: Names, teacher_layers: Names
) -> list[tuple[str, str]]:
    """Pairs of paths: as the user named them, else the last maps of each size that both have.

    Raises:
        ConfigError: the networks share none.
    """
    if student_layers and teacher_layers:
        return list(zip(student_layers, teacher_layers, strict=True))
    student, teacher = (
        maps_of_each_size({k: v for k, v in outputs.items() if not named or k in named})
        for outputs, named in zip(found, (student_layers, teacher_layers), strict=True)
    )
    if both := [size for size in student if size in teacher]:
        return [(student[size], teacher[size]) for size in both]
    mapless = [name for name, maps in (("student", student), ("teacher", teacher)) if not maps]
    why = f"the {mapless[0]} has none" if mapless else "these networks share none"
    cure = (
        "Choose networks that halve images alike (backbone=small_cnn "
        "backbone@teacher=small_cnn), or name layers that match."
    )
    raise ConfigError(
        [
            f"attention is compared between maps of one height and width, and {why}. {cure} "
            f"{' '.join(there_are(found))}"
        ]
    )


def differing_size(student: Tensor, teacher: Tensor) -> str | None:
    """Why two layers' outputs are no maps of one height and width, or None."""
    if student.ndim == teacher.ndim == 4 and student.shape[2:] == teacher.shape[2:]:
        return None
    return (
        "attention needs maps of one height and width, and these are "
        f"{tuple(student.shape[1:])} and {tuple(teacher.shape[1:])}."
    )
