"""FitNets: the student's first half learns to foretell a hidden layer of the teacher, then the
whole student is distilled from there.

Romero, Ballas, Kahou, Chassang, Gatta & Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
section 2.2-2.3 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tl_runner.backbones._inner_layers import Seen
from tl_runner.losses.distillation import hint_distance, softened_cross_entropy
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Batch, Losses, Samples
from tl_runner.methods.distillation.fitnet_joint import Hinted
from tl_runner.methods.phases import Group, Hooks, Outputs, Phase, Update


class FitNet(Hinted):
    """Phases: ``teach``, the student by labels alone, ``hint``, ``distil``.

    Args:
        hint: lengths and optimiser of the phase that trains the student up to the guided layer, and
            a regressor.
        temperature: tau of ``distil``, whose soft loss has no tau^2 (eq. 2).
        start_weight, end_weight: lambda of that loss falls from one to the other, linearly.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        hint: Mapping[str, Any],
        temperature: float,
        start_weight: float,
        end_weight: float,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.hint, self.temperature, self.start_weight, self.end_weight = (
            hint,
            temperature,
            start_weight,
            end_weight,
        )

    def distilling(self) -> list[Phase]:
        return [*self.hinting(), self.distil_phase("distil", self.distil)]

    def hinting(self) -> list[Phase]:
        """Stage 1; the layers behind the guided one rest, their statistics too."""
        if self.setting.deployed:
            return []
        before, behind = self.up_to_guided()
        networks = [self.encoder, self.regressor]
        groups = [Group([*before, *self.regressor.parameters()])]
        update = Update("hint", networks, self.hint["optimizer"], self.foretell, groups=groups)
        reads = {"target": self.taught()["target"]}
        precompute = self.asking(self.hints) if self.fixed(self.hint) else None
        return [
            self.distil_phase(
                "hint",
                self.hint,
                updates=[update],
                reads=reads,
                hooks=Hooks(precompute=precompute),
                eval_layers=behind,
                outputs=Outputs(self, domains=()),
            )
        ]

    def foretell(self, batch: Batch, progress: float) -> Losses:
        """1/2 ||hint - r(guided)||^2 (eq. 3)."""
        (guided, hint), *_ = self.layers
        student = self.student(batch.target.x).layers[guided]
        return {"hint": hint_distance(self.regressor(student), self.told(batch, self.hints)[hint])}

    def hints(self, teacher: Seen) -> dict[str, Tensor]:
        return dict(teacher.layers)

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        weight = self.start_weight + (self.end_weight - self.start_weight) * progress
        return {
            "soft_targets": weight
            * softened_cross_entropy(student.logits, teacher["logits"], self.temperature)
        }
