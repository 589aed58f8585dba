"""FitNets: the student's first half learns to predict a hidden layer of the teacher.

Then the whole student is distilled from there.

Romero, Ballas, Kahou, Chassang, Gatta & Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
section 2.2-2.3 and algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones._inner_layers import parts
from tl_runner.losses.distillation import hint_distance, softened_cross_entropy
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.distillation._hints import Hint
from tl_runner.methods.distillation._teacher import teacher_outputs
from tl_runner.methods.phases import Group, Hooks, Outputs, Phase, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class FitNet(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``hint``, ``distil``.

    Args:
        hint: lengths and optimiser of the phase that trains the student up to the guided layer, and
            a regressor.
        temperature: tau of ``distil``, whose soft loss has no tau^2 (eq. 2).
        start_weight, end_weight: lambda of that loss falls from one to the other, linearly.
        student_layers, teacher_layers: the guided layer and the hint, see :class:`Hint`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        hint: Mapping[str, Any],
        temperature: float,
        start_weight: float,
        end_weight: float,
        student_layers: Sequence[str] | None,
        teacher_layers: Sequence[str] | None,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.hint_options, self.temperature = hint, temperature
        self.start_weight, self.end_weight = start_weight, end_weight
        self.scaffold = (*self.scaffold, "regressor")
        if not setting.deployed:
            self.hint = Hint(self, student_layers, teacher_layers)
            self.regressor = self.fresh("regressor", self.hint.make_regressor)

    def distil_phases(self) -> list[Phase]:
        return [*self.hint_phases(), self.student_phase("distil", self.distil_options)]

    # ---- stage 1

    def hint_phases(self) -> list[Phase]:
        """Stage 1; the layers behind the guided one are not trained, nor are their statistics."""
        if self.setting.deployed:
            return []
        options = self.hint_options
        weights, behind = parts(self.encoder, self.hint.guided, self.setting.shape)
        update = Update(
            "hint",
            [self.encoder, self.regressor],
            options["optimizer"],
            self.hint_step,
            groups=[Group([*weights, *self.regressor.parameters()])],
        )
        return [
            self.student_phase(
                "hint",
                options,
                updates=[update],
                reads={"target": self.distil_reads()["target"]},
                hooks=Hooks(precompute=self.precompute(options, self.hint.query)),
                eval_layers=behind,
                outputs=Outputs(self, domains=()),
            )
        ]

    def hint_step(self, batch: Batch, progress: float) -> Losses:
        """1/2 ||hint - r(guided)||^2 (eq. 3)."""
        _, _, layers = self.hint.student(batch.target.x)
        hint = teacher_outputs(batch, self.hint.query)["hint"]
        return {"hint": hint_distance(self.regressor(layers[self.hint.guided]), hint)}

    # ---- stage 2

    def step(self, batch: Batch, progress: float) -> Losses:
        student, teacher = self.student_outputs(batch), self.teacher_outputs(batch)
        weight = self.start_weight + (self.end_weight - self.start_weight) * progress
        return {
            **self.label_loss(batch, student),
            "soft_targets": weight
            * softened_cross_entropy(student.logits, teacher["logits"], self.temperature),
        }
