"""DKD: the two parts of KD's loss, of the label's class and among the others, weighted apart.

Zhao, Cui, Song, Qiu & Liang, "Decoupled Knowledge Distillation", CVPR 2022, eq. 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import ConfigError
from tl_runner.losses.distillation import decoupled
from tl_runner.methods.distillation._base import Distillation

if TYPE_CHECKING:
    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.setting import Setting


class DKD(Distillation):
    """Phases: ``teach``, ``alone`` (the student by labels alone), ``distil``.

    The student is distilled on the labelled target images.

    Args:
        temperature: T of both networks' softmax.
        alpha: of TCKD, the label's class against all others.
        beta: of NCKD, the other classes among themselves.
        rise: part of the phase in which both weights rise from 0.

    Raises:
        ConfigError: images are mixed, so that they have no one label.
    """

    needs_labels = True

    def __init__(
        self,
        setting: Setting,
        *,
        temperature: float,
        alpha: float,
        beta: float,
        rise: float,
        **options: Any,
    ):
        super().__init__(setting, **options)
        self.temperature, self.alpha, self.beta, self.rise = temperature, alpha, beta, rise
        if self.distil_options["mixup"] or self.distil_options["cutmix"]:
            raise ConfigError(
                [
                    "method=dkd tells the label's class from the others: set method.distil.mixup "
                    "and cutmix to 0."
                ]
            )

    def step(self, batch: Batch, progress: float) -> Losses:
        student, teacher = self.student_outputs(batch), self.teacher_outputs(batch)
        losses = self.label_loss(batch, student)
        assert batch.target.y is not None
        tckd, nckd = decoupled(student.logits, teacher["logits"], batch.target.y, self.temperature)
        share = min(1.0, progress / self.rise) if self.rise else 1.0
        return {
            **losses,
            "target_class": share * self.alpha * tckd.mean(),
            "other_classes": share * self.beta * nckd.mean(),
        }
