"""FitNets in one stage: labels and hint together, as later comparisons have it (Tian, Krishnan &
Isola, "CRD", ICLR 2020), not the paper.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, whose two stages are
``method=fitnet``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.backbones import Backbone
from tl_runner.backbones._inner_layers import Seen, parts
from tl_runner.errors import ConfigError
from tl_runner.losses.precision import full_precision
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.phases import Phase


class Hinted(Distillation):
    """A hidden layer of the teacher, the hint, one of the student, the guided layer, and a
    regressor from this to that.

    By default they are the ends of two blocks, those nearest to the middle of either network that
    fit together.
    """

    def __init__(self, setting: Setting, **options: Any):
        super().__init__(setting, **options)
        self.scaffold = (*self.scaffold, "regressor")
        if not setting.deployed:
            ((guided, hint),) = self.layers[:1]
            shapes = self.shapes["student"][guided], self.shapes["teacher"][hint]
            self.regressor = self.fresh("regressor", lambda: regressor(*shapes, self.rectified))

    def pairs(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        named: Sequence[str] | None,
        taught: Sequence[str] | None,
    ) -> list[tuple[str, str]]:
        if problems := [
            f"method.{side}_layers names {len(n)}: this method has one hint."
            for side, n in (("student", named), ("teacher", taught))
            if n and len(n) > 1
        ]:
            raise ConfigError(problems)
        own = dict.fromkeys(named[:1], 0.0) if named else from_the_middle(self.encoder, student)
        others = (
            dict.fromkeys(taught[:1], 0.0)
            if taught
            else from_the_middle(self.every_teacher[0].encoder, teacher)
        )
        every = sorted(
            ((guided, hint) for guided in own for hint in others),
            key=lambda pair: own[pair[0]] + others[pair[1]],
        )
        guided, hint = next(
            (pair for pair in every if self.unlike(student[pair[0]], teacher[pair[1]]) is None),
            every[0],
        )
        self.rectified = bool((teacher[hint] >= 0).all())
        return [(guided, hint)]

    def unlike(self, student: Tensor, teacher: Tensor) -> str | None:
        """A regressor leads from one to the other: between vectors, or by a convolution from maps
        that are at least as large."""
        if student.ndim == teacher.ndim == 2:
            return None
        if student.ndim == teacher.ndim == 4 and all(
            s >= t for s, t in zip(student.shape[2:], teacher.shape[2:], strict=True)
        ):
            return None
        return (
            f"the guided layer gives {tuple(student.shape[1:])} and the hint "
            f"{tuple(teacher.shape[1:])}: no convolution leads from the one "
            "to the other. Name layers with method.student_layers=[PATH] and "
            "method.teacher_layers=[PATH], the student's maps no smaller."
        )

    def up_to_guided(self) -> tuple[list[nn.Parameter], list[nn.Module]]:
        """(the weights of the student's layers up to the guided one, the modules behind it)."""
        return parts(self.encoder, self.layers[0][0], self.setting.shape)


class FitNetJoint(Hinted):
    """Phases: ``teach``, the student by labels alone, ``distil``.

    Args:
        weight: of the mean squared difference between hint and regressor.
    """

    def __init__(self, setting: Setting, *, weight: float, **options: Any):
        super().__init__(setting, **options)
        self.weight = weight

    def distilling(self) -> list[Phase]:
        more = [] if self.setting.deployed else [self.regressor]
        return [self.distil_phase("distil", self.distil, more)]

    def answers(self, teacher: Seen) -> dict[str, Tensor]:
        return dict(teacher.layers)

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        ((guided, hint),) = self.layers
        said = full_precision(self.regressor(student.layers[guided]))
        return {"hint": self.weight * F.mse_loss(said, full_precision(teacher[hint]))}


def regressor(guided: Sequence[int], hint: Sequence[int], rectified: bool) -> nn.Sequential:
    """From what one layer gives to what the other gives, (C, H, W) or (d,): a convolution without
    padding (section 2.2), or linear.

    It ends in the same non-linearity as the hint: in a ReLU, where that is never negative.
    """
    last: list[nn.Module] = [nn.ReLU()] if rectified else []
    if len(guided) == 1:
        return nn.Sequential(nn.Linear(guided[0], hint[0]), *last)
    kernel = [g - h + 1 for g, h in zip(guided[1:], hint[1:], strict=True)]
    return nn.Sequential(nn.Conv2d(guided[0], hint[0], (kernel[0], kernel[1])), *last)


def from_the_middle(encoder: Backbone, found: Mapping[str, Tensor]) -> dict[str, float]:
    """The last layer of each block by its path, and how far it is from the middle of the network, 0
    to 1/2."""
    blocks = [
        [unit for unit in units if not isinstance(unit, nn.Flatten)]
        for units in encoder.blocks().values()
    ]
    paths = {layer: path for path, layer in encoder.named_modules() if path in found}
    ends = [paths[units[-1]] for units in blocks if units and units[-1] in paths]
    return {path: abs(i / max(1, len(ends) - 1) - 0.5) for i, path in enumerate(ends)}
