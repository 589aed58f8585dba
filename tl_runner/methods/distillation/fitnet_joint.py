"""FitNets in one stage: labels and hint together.

So have it later comparisons (Tian, Krishnan & Isola, "CRD", ICLR 2020), not the paper: Romero et
al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, whose two stages are ``method=fitnet``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from tl_runner.losses.precision import full_precision
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.distillation._hints import Hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class FitNetJoint(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``distil``.

    Args:
        weight: of the mean squared difference between hint and regressor.
        student_layers, teacher_layers: the guided layer and the hint, see :class:`Hint`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        weight: float,
        student_layers: Sequence[str] | None,
        teacher_layers: Sequence[str] | None,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.weight = weight
        self.scaffold = (*self.scaffold, "regressor")
        if not setting.deployed:
            self.hint = Hint(self, student_layers, teacher_layers)
            self.regressor = self.fresh("regressor", self.hint.make_regressor)

    def distil_phases(self) -> list[Phase]:
        more = [] if self.setting.deployed else [self.regressor]
        return [self.student_phase("distil", self.distil_options, more)]

    def query_teachers(self, x: Tensor) -> dict[str, Tensor]:
        return self.hint.query(x)

    def step(self, batch: Batch, progress: float) -> Losses:
        student = self.student_outputs(batch, self.hint.student)
        losses, hint = self.label_loss(batch, student), self.teacher_outputs(batch)["hint"]
        regressed = full_precision(self.regressor(student.layers[self.hint.guided]))
        return {**losses, "hint": self.weight * F.mse_loss(regressed, full_precision(hint))}
